"""Where an attack starts: from nothing (R0), from frames of the scene (R1, Rk), or from what another attack found."""

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from auditor.records import Clip, Clips, Knowledge


@runtime_checkable
class Start(Protocol):
    """Makes the first iterate."""

    def __call__(self, knowledge: Knowledge, generator: torch.Generator) -> Clips:
        """Return clips in [0, 1] on the CPU."""
        ...


@dataclass(frozen=True)
class Grey:
    """R0: mid grey with a little noise, to tell restarts and the clips of a batch apart."""

    noise: float = 0.02

    def __call__(self, knowledge: Knowledge, generator: torch.Generator) -> Clips:
        """Return 0.5 + noise * N(0, 1), clamped."""
        shape = (knowledge.batch, *knowledge.clip_shape)
        return (0.5 + self.noise * torch.randn(shape, generator=generator)).clamp(0.0, 1.0)


@dataclass(frozen=True)
class UniformNoise:
    """R0: every value drawn from [0, 1], as DLG starts (Zhu et al. 2019, arXiv 1906.08935; there from a normal)."""

    def __call__(self, knowledge: Knowledge, generator: torch.Generator) -> Clips:
        """Return U(0, 1)."""
        return torch.rand((knowledge.batch, *knowledge.clip_shape), generator=generator)


@dataclass(frozen=True)
class Pattern:
    """R0: a small random patch, repeated over the frame and held over time (Wei et al. 2020, arXiv 2004.10397).

    Repetition leaves few distinct values, so units see one thing everywhere instead of noise.

    Attributes
    ----------
    size
        Side of the patch in pixels.
    """

    size: int = 4

    def __call__(self, knowledge: Knowledge, generator: torch.Generator) -> Clips:
        """Return the tiled patch, of every clip its own."""
        frames, channels, height, width = knowledge.clip_shape
        patch = torch.rand((knowledge.batch, 1, channels, self.size, self.size), generator=generator)
        down, across = -(-height // self.size), -(-width // self.size)
        tiled = patch.repeat(1, 1, 1, down, across)[..., :height, :width]
        return tiled.expand(-1, frames, -1, -1, -1).contiguous()


@dataclass(frozen=True)
class GivenClips:
    """What another attack found, such as a closed form that is exact but for noise; R0 still, for all is the update's.

    Attributes
    ----------
    clips
        One clip per clip of the batch, in [0, 1].
    """

    clips: Clips = field(repr=False)

    def __call__(self, knowledge: Knowledge, generator: torch.Generator) -> Clips:
        """Return a copy on the CPU.

        Raises
        ------
        ValueError
            They are not of the batch's shape.
        """
        wanted = (knowledge.batch, *knowledge.clip_shape)
        if tuple(self.clips.shape) != wanted:
            raise ValueError(f"a start of shape {tuple(self.clips.shape)} was given for clips of {wanted}")
        return self.clips.detach().cpu().nan_to_num(0.5).clamp(0.0, 1.0).clone()


@dataclass(frozen=True)
class ReferenceFrame:
    """R1 and Rk (after Rasul et al. 2025, arXiv 2509.09742): frames of the scene, held or interpolated over the clip.

    Attributes
    ----------
    count
        How many of the newest reference frames are used (fewer, where fewer are known). One is held over all frames;
        several are spread evenly over the clip, the oldest first, and interpolated linearly.
    """

    noise: float = 0.01
    count: int = 1

    def __call__(self, knowledge: Knowledge, generator: torch.Generator) -> Clips:
        """Return the frames over time, with a little noise.

        Raises
        ------
        LookupError
            This attacker knows no reference frame.
        """
        noise = torch.randn((knowledge.batch, *knowledge.clip_shape), generator=generator)
        over_time = reference_copy(knowledge, self.count).to(noise.device)
        return (over_time[None] + self.noise * noise).clamp(0.0, 1.0)


def reference_copy(knowledge: Knowledge, count: int) -> Clip:
    """Return the newest `count` reference frames over time: one held, several interpolated, the oldest first.

    Raises
    ------
    LookupError
        This attacker knows no reference frame.
    """
    if knowledge.reference is None or not len(knowledge.reference):
        raise LookupError("no reference frame is known")
    return _over_time(knowledge.reference[-count:], knowledge.clip_shape[0])


def _over_time(frames: Float[Tensor, "k c h w"], count: int) -> Float[Tensor, "t c h w"]:
    """Interpolate linearly: the first frame at the start, the last at the end."""
    if len(frames) == 1:
        return frames.expand(count, -1, -1, -1)
    at = torch.linspace(0.0, len(frames) - 1.0, count, device=frames.device)
    before = at.floor().clamp(max=len(frames) - 2).long()
    share = (at - before).view(-1, 1, 1, 1)
    return (1.0 - share) * frames[before] + share * frames[before + 1]
