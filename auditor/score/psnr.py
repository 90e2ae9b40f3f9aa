"""Peak signal-to-noise ratio."""

from torch import Tensor

from auditor.score.shapes import check_shapes


def psnr(truth: Tensor, estimate: Tensor, dim: int | tuple[int, ...] | None = None) -> Tensor:
    """Return -10 log10(MSE) in dB for values in [0, 1] (peak 1); infinite where both are equal.

    The mean square error is taken over the axes `dim`, all of them if None: `dim=(1, 2, 3)` gives one value a frame of
    a clip. Never pool a batch: the mean of MSEs is governed by its worst clip. Computed in float64.

    Raises
    ------
    ValueError
        The shapes differ.

    >>> import torch
    >>> psnr(torch.zeros(2, 1, 4, 4), torch.full((2, 1, 4, 4), 0.25)).item()
    12.041199826559248
    """
    check_shapes(truth, estimate)
    error = (truth.double() - estimate.double()).square()
    return -10 * (error.mean() if dim is None else error.mean(dim)).log10()
