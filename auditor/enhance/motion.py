"""Sub-pixel motion between frames of one clip, seen by nobody but the clip itself."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

# Deviation in pixels of the window over which motion is taken to be one: smaller follows limbs, larger follows noise
# less. 2.5 was best of 1.5 to 4 on the shipped clips at 32 x 32.
_WINDOW = 2.5
_LEVELS, _ROUNDS = 3, 4
# The smallest side of a coarser level: below that, a window would be the frame.
_SMALLEST = 12
# Added to the diagonal of the structure tensor, in squared grey levels a pixel: flat regions stay where they are
# (gradients of half a grey level of 8-bit video, squared, are 4e-6).
_FLAT = 3e-5


def flow(reference: Float[Tensor, "pair channel height width"], other: Tensor) -> Float[Tensor, "pair 2 height width"]:
    """Return (right, down) in pixels such that `warped(other, flow)` looks like `reference`.

    Iterative least squares on brightness over Gaussian windows, from coarse to fine (Lucas & Kanade, IJCAI 1981; the
    pyramid of Bouguet 2000, here for every pixel).
    """
    pyramid = [(reference, other)]
    while len(pyramid) < _LEVELS and min(pyramid[-1][0].shape[-2:]) >= 2 * _SMALLEST:
        pyramid.append(tuple(functional.avg_pool2d(frames, 2) for frames in pyramid[-1]))  # type: ignore[arg-type]
    found = reference.new_zeros(len(reference), 2, *pyramid[-1][0].shape[-2:])
    for first, second in reversed(pyramid):
        side = first.shape[-2:]
        if found.shape[-2:] != side:
            grown = functional.interpolate(found, side, mode="bilinear", align_corners=False)
            found = grown * found.new_tensor([side[1] / found.shape[-1], side[0] / found.shape[-2]])[:, None, None]
        for _ in range(_ROUNDS):
            found = found + _step(first, warped(second, found))
    return found


def _step(first: Tensor, second: Tensor) -> Tensor:
    right, down = _gradient((first + second) / 2)
    late = second - first
    xx, yy, xy, xt, yt = (
        smoothed((a * b).mean(1, keepdim=True), _WINDOW)
        for a, b in ((right, right), (down, down), (right, down), (right, late), (down, late))
    )
    xx, yy = xx + _FLAT, yy + _FLAT
    area = xx * yy - xy * xy
    step = torch.cat([xy * yt - yy * xt, xy * xt - xx * yt], 1) / area
    return step.clamp(-1, 1)  # linearised brightness holds for about a pixel


def _gradient(frames: Tensor) -> tuple[Tensor, Tensor]:
    padded = functional.pad(frames, (1, 1, 1, 1), mode="replicate")
    return (
        (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2,
        (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2,
    )


def smoothed(values: Float[Tensor, "pair channel height width"], deviation: float) -> Tensor:
    """Return every channel under a Gaussian window of a deviation in pixels; edges are repeated."""
    radius = max(1, round(2 * deviation))
    offsets = torch.arange(-radius, radius + 1, device=values.device, dtype=values.dtype)
    kernel = torch.exp(-offsets.square() / (2 * deviation**2))
    kernel = kernel / kernel.sum()
    channels = values.shape[1]
    padded = functional.pad(values, (radius,) * 4, mode="replicate")
    rows = functional.conv2d(padded, kernel.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)
    return functional.conv2d(rows, kernel.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)


def warped(frames: Float[Tensor, "pair channel height width"], motion: Tensor) -> Tensor:
    """Return the frames read at each pixel's place plus `motion`, by bicubic interpolation; edges are repeated."""
    height, width = frames.shape[-2:]
    rows = torch.arange(height, device=frames.device, dtype=frames.dtype)[:, None]
    columns = torch.arange(width, device=frames.device, dtype=frames.dtype)[None, :]
    x = (2 * (columns + motion[:, 0]) + 1) / width - 1
    y = (2 * (rows + motion[:, 1]) + 1) / height - 1
    return functional.grid_sample(
        frames, torch.stack([x, y], -1), mode="bicubic", padding_mode="border", align_corners=False
    )
