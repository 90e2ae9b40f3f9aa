"""Conjugate gradients for a linear system that is known by its products alone."""

from collections.abc import Callable

import torch
from torch import Tensor

from auditor.records import Clock


def conjugate_gradients(
    product: Callable[[Tensor], Tensor], right: Tensor, most: int, tolerance: float, clock: Clock | None = None
) -> tuple[Tensor, int]:
    """Solve product(d) = right for a positive definite product (Hestenes & Stiefel 1952), from zero.

    Returns d and the number of products made: at most `most`, fewer once the rest is `tolerance` of `right` or time is
    up.
    """
    d, rest = torch.zeros_like(right), right.clone()
    p, size = rest.clone(), rest.square().sum()
    first, done = size, 0
    while done < most:
        image, done = product(p), done + 1
        along = (p * image).sum()
        if not bool(along > 0):
            break
        length = size / along
        d += length * p
        rest -= length * image
        before, size = size, rest.square().sum()
        if bool(size < tolerance**2 * first) or (clock is not None and clock.left < 0.0):
            break
        p = rest + size / before * p
    return d, done
