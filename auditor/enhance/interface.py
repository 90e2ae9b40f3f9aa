"""What every enhancer is: a name, a scale, and a way from reconstructed frames to larger ones."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch

from auditor.records import Clip, record, work_of


@record
class Enhanced:
    """Reconstructed frames after super-resolution; detail in them is inferred by a prior, not recovered."""

    method: str
    scale: int
    clip: Clip
    seconds: float


@runtime_checkable
class Enhancer(Protocol):
    """Enlarges a clip; sees nothing but the clip.

    Attributes
    ----------
    name
        What reports call it.
    scale
        Both sides grow by it.
    """

    @property
    def name(self) -> str: ...
    @property
    def scale(self) -> int: ...

    def __call__(self, clip: Clip) -> Enhanced:
        """Return (frame, channel, scale * height, scale * width) in [0, 1].

        Raises
        ------
        AuditError
            It cannot enlarge this clip.
        """
        ...

    def seconds_estimate(self, clip_shape: tuple[int, ...]) -> float:
        """Return the work of a clip of (frame, channel, height, width) in reference seconds."""
        ...


def measured(enhance: Callable[[Clip], Enhanced], clip_shape: tuple[int, ...], frames: int = 1) -> float:
    """Return reference seconds for a whole clip, counted on its first `frames` (of noise): work is linear in frames."""
    total, *rest = clip_shape
    part = min(frames, total)
    noise = torch.rand(part, *rest, generator=torch.Generator().manual_seed(0))
    return work_of(lambda: enhance(noise)) * total / part
