"""Conjugate gradients for a linear system that is known by its products alone."""

from collections.abc import Callable

import torch
from torch import Tensor

from auditor.records import Clock, repeated


def conjugate_gradients(
    product: Callable[[Tensor], Tensor],
    right: Tensor,
    most: int,
    tolerance: float,
    clock: Clock | None = None,
    diagonal: Tensor | None = None,
) -> tuple[Tensor, int]:
    """Solve product(d) = right for a positive definite product (Hestenes & Stiefel 1952), from zero.

    Returns d and the number of products made: at most `most`, fewer once the rest is `tolerance` of `right` or the
    clock's work is done. `diagonal` is about that of the product's matrix, positive, if known: it scales the
    system.
    """
    scale = torch.ones_like(right) if diagonal is None else 1.0 / diagonal
    d, rest = torch.zeros_like(right), right.clone()
    p = scale * rest
    size = (rest * p).sum()
    first, done, product = size, 0, repeated(product)
    while done < most:
        image, done = product(p), done + 1
        along = (p * image).sum()
        if not bool(along > 0):
            break
        length = size / along
        d += length * p
        rest -= length * image
        towards = scale * rest
        before, size = size, (rest * towards).sum()
        if bool(size < tolerance**2 * first) or (clock is not None and clock.left < 0.0):
            break
        p = towards + size / before * p
    return d, done
