"""Structural similarity, frame by frame."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from auditor.records import Clip
from auditor.score.shapes import check_shapes

_WINDOW = 11
_SIGMA = 1.5
_C1 = 0.01**2
_C2 = 0.03**2


def ssim_frames(truth: Clip, estimate: Clip) -> Float[Tensor, " frame"]:
    """Return the SSIM of every frame, in [-1, 1]; 1 only for equal frames.

    Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment: from error visibility to structural similarity", IEEE
    TIP 13(4), 2004, eq. 13: Gaussian window of 11 x 11 with sigma 1.5, K1 = 0.01, K2 = 0.03, data range 1, local
    moments as population moments; averaged over the positions where the window fits into the frame and over channels.
    Frames of fewer than 11 pixels a side get the largest odd window that fits (same sigma, weights sum to 1); their
    values cannot be compared with those of larger frames. A clip is a set of frames: a volumetric SSIM would blur
    in time. Computed in float64.

    Raises
    ------
    ValueError
        The shapes differ.
    """
    check_shapes(truth, estimate)
    frames, channels, height, width = truth.shape
    # Every channel of every frame is an image of its own.
    x, y = (clip.double().reshape(-1, 1, height, width) for clip in (truth, estimate))
    mean_x, mean_y = _local_mean(x), _local_mean(y)
    variance_x = _local_mean(x * x) - mean_x**2
    variance_y = _local_mean(y * y) - mean_y**2
    covariance = _local_mean(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x**2 + mean_y**2 + _C1)
    structure = (2 * covariance + _C2) / (variance_x + variance_y + _C2)
    return (luminance * structure).mean((1, 2, 3)).reshape(frames, channels).mean(1)


def _local_mean(images: Float[Tensor, "image 1 height width"]) -> Float[Tensor, "image 1 rows columns"]:
    height, width = images.shape[-2:]
    rows = functional.conv2d(images, _gaussian(height).reshape(1, 1, -1, 1).to(images))
    return functional.conv2d(rows, _gaussian(width).reshape(1, 1, 1, -1).to(images))


def _gaussian(length: int) -> Float[Tensor, " tap"]:
    taps = min(_WINDOW, length if length % 2 else length - 1)
    offset = torch.arange(taps, dtype=torch.float64) - (taps - 1) / 2
    weights = (-0.5 * (offset / _SIGMA) ** 2).exp()
    return weights / weights.sum()
