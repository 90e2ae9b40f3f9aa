"""Can what moves in a clip be made out? Agreement of detail where the clip leaves its background."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from auditor.records import Clip
from auditor.score.shapes import check_shapes

# Larger frames are shrunk: the eye averages the noise of neighbouring pixels.
_LARGEST = 64
# Detail is what a Gaussian of an eighth of the side takes out: shapes of persons and limbs, not light and colour.
_DETAIL = 1 / 8
# Motion counts with its surroundings, a pixel of 32: an outline has two sides.
_SURROUNDINGS = 1 / 32
# Of a clip in which nothing moves every place counts alike; a deviation of a thousandth is no motion.
_STILL = 1e-6
# Frames with less than a tenth of the mean motion show the background alone; those of shipped clips have more.
_LEAST_MOTION = 0.1
# A root mean square of 1e-4 is rounding of a blank picture, not detail.
_BLANK = 1e-8


def content(truth: Clip, estimate: Clip) -> float:
    """Return how well the detail of what moves agrees, in [-1, 1]: of the best frame, as one clear face is a breach.

    The correlation of the high-pass parts of both clips, weighted by the squared departure of the truth from its median
    frame (its background, where the camera stands still). PSNR and SSIM are dominated by what stands still, and see
    little difference between a street with a person and without; a correlation asks for neither the right brightness
    nor the right contrast, which the eye forgives. 0 where either has no detail.

    Raises
    ------
    ValueError
        The shapes differ.
    """
    check_shapes(truth, estimate)
    true, made = (_shrunk(clip.detach().cpu().float().nan_to_num(0.5).clamp(0, 1)) for clip in (truth, estimate))
    side = min(true.shape[-2:])
    moved = (true - true.median(0, keepdim=True).values).square().sum(1, keepdim=True)
    weight = _blurred(moved, _SURROUNDINGS * side) + _STILL
    motion = weight.mean((1, 2, 3))
    agreement = _correlation(_detail(true, side), _detail(made, side), weight)
    return float(agreement[motion >= _LEAST_MOTION * motion.mean()].max())


def _correlation(a: Clip, b: Clip, weight: Clip) -> Float[Tensor, " frame"]:
    def of(x: Clip, y: Clip) -> Tensor:
        return (weight * x * y).double().sum((1, 2, 3))

    least = _BLANK * a.shape[1] * weight.double().sum((1, 2, 3))
    own, other = of(a, a), of(b, b)
    return torch.where(torch.minimum(own, other) > least, of(a, b) / (own * other).sqrt().clamp_min(1e-30), 0.0)


def _detail(clip: Clip, side: int) -> Clip:
    return clip - _blurred(clip, _DETAIL * side)


def _shrunk(clip: Clip) -> Clip:
    scale = _LARGEST / min(clip.shape[-2:])
    if scale >= 1.0:
        return clip
    return functional.interpolate(clip, [round(extent * scale) for extent in clip.shape[-2:]], mode="area")


def _blurred(clip: Clip, sigma: float) -> Clip:
    """Blur every channel by a Gaussian of three deviations; beyond its edge a frame goes on as it ends."""
    reach = int(3 * sigma + 1)
    offset = torch.arange(-reach, reach + 1, dtype=clip.dtype)
    taps = (-0.5 * (offset / sigma).square()).exp()
    taps = taps / taps.sum()
    images = clip.reshape(-1, 1, *clip.shape[-2:])
    images = functional.pad(images, (reach,) * 4, mode="replicate")
    rows = functional.conv2d(images, taps.reshape(1, 1, 1, -1))
    return functional.conv2d(rows, taps.reshape(1, 1, -1, 1)).reshape(clip.shape)
