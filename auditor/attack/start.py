"""Where an attack starts: from nothing (R0), or from one frame of the scene (R1)."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch

from auditor.records import Clips, Knowledge


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
class ReferenceFrame:
    """R1 (after Rasul et al. 2025, arXiv 2509.09742): one frame of the scene, held over all frames."""

    noise: float = 0.01

    def __call__(self, knowledge: Knowledge, generator: torch.Generator) -> Clips:
        """Return the newest reference frame repeated, with a little noise.

        Raises
        ------
        LookupError
            This attacker knows no reference frame.
        """
        if knowledge.reference is None:
            raise LookupError("no reference frame is known")
        held = knowledge.reference[-1:].cpu().expand(knowledge.clip_shape)
        shape = (knowledge.batch, *knowledge.clip_shape)
        return (held[None] + self.noise * torch.randn(shape, generator=generator)).clamp(0.0, 1.0)
