"""Bicubic enlargement: the baseline that a learned prior must beat."""

import time
from dataclasses import dataclass

from torch.nn import functional

from auditor.enhance.interface import Enhanced, measured
from auditor.records import Clip


def bicubic(clip: Clip, scale: int) -> Enhanced:
    """Return (frame, channel, scale * height, scale * width) in [0, 1], by Keys' cubic convolution (1981)."""
    start = time.monotonic()
    height, width = clip.shape[-2:]
    enlarged = functional.interpolate(
        clip.detach(), (scale * height, scale * width), mode="bicubic", align_corners=False, antialias=True
    )
    return Enhanced(method="bicubic", scale=scale, clip=enlarged.clamp(0, 1), seconds=time.monotonic() - start)


@dataclass(frozen=True, slots=True)
class Bicubic:
    """`bicubic` as an enhancer."""

    scale: int

    @property
    def name(self) -> str:
        """What reports call it."""
        return "bicubic"

    def __call__(self, clip: Clip) -> Enhanced:
        """Return the enlarged clip."""
        return bicubic(clip, self.scale)

    def seconds_estimate(self, clip_shape: tuple[int, ...]) -> float:
        """Return the work of a clip of (frame, channel, height, width) in reference seconds."""
        return measured(self, clip_shape)
