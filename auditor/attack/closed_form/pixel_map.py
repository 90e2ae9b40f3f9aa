"""Recognise an operation whose input is the clip itself, merely rearranged and normalised."""

from dataclasses import dataclass

import torch
from torch import Tensor

from auditor.records import Clip, PublicModel

# 64 levels in [0, 1] are far apart compared with float32 rounding, and three digits address 262,144 pixels, four
# 16 million.
_LEVELS = 64
# A rearrangement is exact up to float32 rounding; a layer of features is nowhere near affine to this precision.
_EXACT = 1e-4


@dataclass(frozen=True)
class PixelMap:
    """`input.flatten()[i] == scale[i] * clip.flatten()[pixel[i]] + offset[i]` for every element of the input.

    `known` marks the elements that hold a pixel; the others (padding) are constants.
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
    middle = read(torch.full((count,), 0.5)).reshape(-1)
    if float((middle - offset - 0.5 * scale).abs().max()) > _EXACT * float(scale.abs().max()):
        return None
    address = torch.arange(count)
    pixel = torch.zeros(len(offset), dtype=torch.long, device=offset.device)
    weight = 1
    while weight < count:
        digits = (address // weight) % _LEVELS
        seen = (read(digits.float() / (_LEVELS - 1)).reshape(-1) - offset) / torch.where(known, scale, 1.0)
        pixel += weight * (seen * (_LEVELS - 1)).round().long().clamp(0, _LEVELS - 1)
        weight *= _LEVELS
    pixel = pixel.clamp(max=count - 1)
    trial = torch.rand(count, generator=torch.Generator().manual_seed(0))
    predicted = scale * trial.to(offset)[pixel] + offset
    predicted = torch.where(known, predicted, offset)
    if float((read(trial).reshape(-1) - predicted).abs().max()) > _EXACT * float(scale.abs().max()):
        return None
    return PixelMap(shape=shape, pixel=pixel, scale=scale, offset=offset, known=known, clip_shape=clip_shape)
