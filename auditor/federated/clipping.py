"""Clipping of updates: to a norm over all parameters, or entry by entry."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from auditor.records import Defence, Effect, written

# Between these squares are numbers of float32, and sums of a billion of them.
_SMALLEST, _LARGEST = 1e-15, 1e15


@dataclass(frozen=True)
class ClipNorm(Defence):
    """Scale an update down to an L2 norm over all parameters, u min(1, C / ||u||) (Abadi et al. 2016, 1607.00133)."""

    name: ClassVar[str] = "clip"
    form: ClassVar[str] = "clip:NORM with NORM > 0"
    effect: ClassVar[Effect] = "scale"
    norm: float

    @classmethod
    def of(cls, number: str) -> Self:
        """Return the defence with this largest norm."""
        return cls(positive(number))

    @property
    def told(self) -> str:
        """What it does."""
        return f"the whole update is scaled down to an L2 norm of {written(self.norm)} where it is longer"

    def apply(self, update: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Return the update at most as long as the norm."""
        return self.simulate(update, None)

    def simulate(self, ours: Mapping[str, Tensor], sent: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        """Return ours at most as long as the norm; a scale is differentiable as it is."""
        length = torch.stack([g.square().sum() for g in ours.values()]).sum().sqrt()
        return {name: g * (self.norm / length.clamp(min=self.norm)) for name, g in ours.items()}

    def __str__(self) -> str:
        return f"{self.name}:{written(self.norm)}"


@dataclass(frozen=True)
class Clamp(Defence):
    """Cut every entry at +-limit."""

    name: ClassVar[str] = "clamp"
    form: ClassVar[str] = "clamp:LIMIT with LIMIT > 0"
    effect: ClassVar[Effect] = "clamp"
    limit: float

    @classmethod
    def of(cls, number: str) -> Self:
        """Return the defence with this largest entry."""
        return cls(positive(number))

    @property
    def told(self) -> str:
        """What it does."""
        return f"every entry is cut at +-{written(self.limit)}"

    def apply(self, update: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Return the update with no entry beyond the limit."""
        return self.simulate(update, None)

    def simulate(self, ours: Mapping[str, Tensor], sent: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        """Return ours with no entry beyond the limit: flat there, since such an entry tells no more than that."""
        return {name: g.clamp(-self.limit, self.limit) for name, g in ours.items()}

    def __str__(self) -> str:
        return f"{self.name}:{written(self.limit)}"


def positive(number: str) -> float:
    """Return a number above 0 that float32 holds and squares.

    Raises
    ------
    ValueError
        It is none.
    """
    value = float(number)
    if not _SMALLEST <= value <= _LARGEST:
        raise ValueError(number)
    return value
