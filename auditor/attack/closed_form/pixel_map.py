"""Recognise an operation whose input is the clip itself, merely rearranged and normalised."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from auditor.records import Clip, PublicModel

# 64 levels in [0, 1] are far apart compared with float32 rounding, and three digits address 262,144 pixels, four
# 16 million.
_LEVELS = 64
# A rearrangement is exact up to float32 rounding; a layer of features is nowhere near affine to this precision.
_EXACT = 1e-4
# Where forward computes in float16 (autocast), values keep 11 bits, in bfloat16 8, of sums of pixels and means too.
_HALF = 1e-3
# No step of any usual rounding ends here, so what rounds is off.
_BETWEEN = 0.47
# What rounds pixels is flat in between: 0.4 is 102 of 255, and a quarter of a step of 8 bits away nothing changes.
_FLAT = (0.4, 0.401)
# A pixel rounded to 8 bits is off by half a step, or a step where it is cut off; addresses of 64 levels survive that.
# Of coarser ones (posterised to as few as two levels) dark and bright alone are told apart.
_EIGHT_BITS, _COARSE, _DARK_AND_BRIGHT = 1.01 / 255, 0.51, 2


@dataclass(frozen=True)
class PixelMap:
    """`input.flatten()[i] == scale[i] * clip.flatten()[pixel[i]] + offset[i]` for every element of the input.

    Where the model rounds pixels first, this holds for the rounded clip. `known` marks the elements that hold a pixel;
    the others (padding) are constants.
    """

    shape: tuple[int, ...]
    pixel: Tensor
    scale: Tensor
    offset: Tensor
    known: Tensor
    clip_shape: tuple[int, int, int, int]

    @property
    def coverage(self) -> float:
        """Share of the clip's pixels that the input holds, in [0, 1]."""
        pixels = self.clip_shape[0] * self.clip_shape[1] * self.clip_shape[2] * self.clip_shape[3]
        return len(torch.unique(self.pixel[self.known])) / pixels

    def to_clip(self, values: Tensor) -> Clip:
        """Put the input's values back in place: `(frame, channel, height, width)`, in [0, 1], grey where unknown."""
        value = (values.reshape(-1).to(self.scale) - self.offset) / torch.where(self.known, self.scale, 1.0)
        pixels = torch.full((torch.tensor(self.clip_shape).prod().item(),), 0.5, dtype=value.dtype, device=value.device)  # type: ignore[arg-type]
        pixels[self.pixel[self.known]] = value[self.known]
        return pixels.clamp(0.0, 1.0).reshape(self.clip_shape).float()


def pixel_map(
    model: PublicModel, parameter: str, clip_shape: tuple[int, int, int, int], device: torch.device
) -> PixelMap | None:
    """Return how the operation that reads `parameter` sees the clip, or None when it sees something else.

    Each pixel is given an address written in base 64; a few forward passes with one digit as the pixel's value show
    which pixel each element of the input holds. A random clip then checks the map.
    """
    count = clip_shape[0] * clip_shape[1] * clip_shape[2] * clip_shape[3]

    def read(pixels: Tensor) -> Tensor:
        with torch.no_grad():
            seen, _ = model.inputs_of(parameter, pixels.reshape(1, *clip_shape).to(device))
        return seen.detach().double()

    try:
        zero = read(torch.zeros(count))
    except LookupError:
        return None
    shape = tuple(zero.shape)
    offset = zero.reshape(-1)
    scale = read(torch.ones(count)).reshape(-1) - offset
    known = scale.abs() > 1e-6
    if not bool(known.any()):
        return None
    largest = float(scale.abs().max())
    between = read(torch.full((count,), _BETWEEN)).reshape(-1)
    tries = [(_LEVELS, _EXACT), (_LEVELS, _HALF)]
    if float((between - offset - _BETWEEN * scale).abs().max()) > _EXACT * largest:
        below, above = (read(torch.full((count,), value)) for value in _FLAT)
        tries = [(_LEVELS, _HALF), (_LEVELS, _EIGHT_BITS)]
        if torch.equal(below, above):
            tries = [(_LEVELS, _EIGHT_BITS), (_DARK_AND_BRIGHT, _COARSE)]
    trial = torch.rand(count, generator=torch.Generator().manual_seed(0))
    wanted = read(trial).reshape(-1)
    for levels, tolerance in tries:
        pixel = _pixels(read, offset, torch.where(known, scale, 1.0), levels, count)
        predicted = torch.where(known, scale * trial.to(offset)[pixel] + offset, offset)
        if float((wanted - predicted).abs().max()) <= tolerance * largest:
            return PixelMap(shape=shape, pixel=pixel, scale=scale, offset=offset, known=known, clip_shape=clip_shape)
    return None


def _pixels(read: Callable[[Tensor], Tensor], offset: Tensor, scale: Tensor, levels: int, count: int) -> Tensor:
    """Return the address of the pixel in each element, read digit by digit in base `levels`."""
    address = torch.arange(count)
    pixel = torch.zeros(len(offset), dtype=torch.long, device=offset.device)
    weight = 1
    while weight < count:
        digits = (address // weight) % levels
        seen = (read(digits.float() / (levels - 1)).reshape(-1) - offset) / scale
        pixel += weight * (seen * (levels - 1)).round().long().clamp(0, levels - 1)
        weight *= levels
    return pixel.clamp(max=count - 1)
