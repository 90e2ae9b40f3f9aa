"""Bicubic enlargement: the baseline that a learned prior must beat."""

import time

from torch.nn import functional

from auditor.records import Clip, Enhanced


def bicubic(clip: Clip, scale: int) -> Enhanced:
    """Return (frame, channel, scale * height, scale * width) in [0, 1], by Keys' cubic convolution (1981)."""
    start = time.monotonic()
    height, width = clip.shape[-2:]
    enlarged = functional.interpolate(
        clip.detach(), (scale * height, scale * width), mode="bicubic", align_corners=False, antialias=True
    )
    return Enhanced(method="bicubic", scale=scale, clip=enlarged.clamp(0, 1), seconds=time.monotonic() - start)
