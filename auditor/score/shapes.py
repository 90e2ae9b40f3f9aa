"""Clips that are compared have one shape."""

from torch import Tensor


def check_shapes(truth: Tensor, estimate: Tensor) -> None:
    """Do nothing where two clips, or two stacks of clips, have one shape.

    Raises
    ------
    ValueError
        The shapes differ.
    """
    if truth.shape != estimate.shape:
        raise ValueError(f"shapes differ: {tuple(truth.shape)} and {tuple(estimate.shape)}")
