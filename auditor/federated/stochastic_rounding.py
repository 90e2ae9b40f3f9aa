"""Rounding at random, right on average: fixed point with a range, and levels of a parameter's norm."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from auditor.federated.clipping import positive
from auditor.records import Defence, Effect, written

_BIASED = "biased"


@dataclass(frozen=True)
class FixedPoint(Defence):
    """Cut every entry at +-limit and round it at random to a level, as secure aggregation does before it masks.

    Levels are 2 limit / levels apart (Bell et al. 2020, arXiv 2009.13936, as Flower's SecAgg+ quantises).
    """

    name: ClassVar[str] = "fixed-point"
    form: ClassVar[str] = "fixed-point:LIMIT,LEVELS with LIMIT > 0 and LEVELS >= 2"
    effect: ClassVar[Effect] = "noise"
    limit: float
    levels: int

    @classmethod
    def of(cls, number: str) -> Self:
        """Return the defence with this range and so many levels."""
        limit, levels = number.split(",")
        if int(levels) < 2:
            raise ValueError(number)
        return cls(positive(limit), int(levels))

    @property
    def told(self) -> str:
        """What it does."""
        return f"entries are cut at +-{written(self.limit)} and rounded at random to one of {self.levels} levels"

    @property
    def step(self) -> float:
        """Distance of two levels."""
        return 2.0 * self.limit / self.levels

    def apply(self, update: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Return the update at its levels."""
        made = {}
        for name, g in update.items():
            # In float64: float32 holds 2^24 numbers, of which levels take a quarter.
            place = (g.double().clamp(-self.limit, self.limit) + self.limit) / self.step
            up = torch.rand(g.shape, generator=generator, dtype=torch.float64).to(g.device) < place - place.floor()
            made[name] = ((place.floor() + up) * self.step - self.limit).to(g)
        return made

    def simulate(self, ours: Mapping[str, Tensor], sent: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        """Return ours within the range: rounding is right on average."""
        return {name: g.clamp(-self.limit, self.limit) for name, g in ours.items()}

    def deviation(self, sent: Mapping[str, Tensor]) -> dict[str, float]:
        """Return step / sqrt(6): f (1 - f) is a sixth on average over the place f between two levels."""
        return dict.fromkeys(sent, self.step / math.sqrt(6.0))

    def __str__(self) -> str:
        return f"{self.name}:{written(self.limit)},{self.levels}"


@dataclass(frozen=True)
class Qsgd(Defence):
    """Send sign(g) ||g|| k / s with k drawn so that it is right on average (QSGD, Alistarh et al. 2017, 1610.02132).

    A `biased` one is smaller by 1 + min(d / s^2, sqrt(d) / s) for a parameter of d entries, the bound on its variance
    (lemma 3.1 there), as FedML sends it.
    """

    name: ClassVar[str] = "qsgd"
    form: ClassVar[str] = "qsgd:LEVELS or qsgd:LEVELS,biased with LEVELS >= 1"
    effect: ClassVar[Effect] = "noise"
    levels: int
    biased: bool = False

    @classmethod
    def of(cls, number: str) -> Self:
        """Return the defence with so many levels."""
        levels, comma, kind = number.partition(",")
        if int(levels) < 1 or (comma and kind != _BIASED):
            raise ValueError(number)
        return cls(int(levels), bool(comma))

    @property
    def told(self) -> str:
        """What it does."""
        made = f"entries are rounded at random to {self.levels} levels of their parameter's norm"
        return f"{made}, and made smaller by the bound on the variance of that" if self.biased else made

    def apply(self, update: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Return the update at its levels."""
        made = {}
        for name, g in update.items():
            step = g.norm().clamp(min=1e-30) / self.levels
            place = g.abs() / step
            up = torch.rand(g.shape, generator=generator).to(g) < place - place.floor()
            made[name] = g.sign() * (place.floor() + up) * step * self._scale(g)
        return made

    def simulate(self, ours: Mapping[str, Tensor], sent: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        """Return ours at the scale that was sent: rounding is right on average."""
        return {name: g * self._scale(g) for name, g in ours.items()} if self.biased else dict(ours)

    def _scale(self, g: Tensor) -> float:
        """Return the factor of a parameter."""
        size = max(1, g.numel())
        return 1.0 / (1.0 + min(size / self.levels**2, math.sqrt(size) / self.levels)) if self.biased else 1.0

    def deviation(self, sent: Mapping[str, Tensor]) -> dict[str, float]:
        """Return sqrt(E sent^2 - E g^2): the norm of what was rounded is known, as steps of it are sent."""
        found = {}
        for name, g in sent.items():
            size = g.detach().abs().double().flatten()
            step = float(size[size > 0.0].min()) if bool((size > 0.0).any()) else 0.0
            norm = step * self.levels
            found[name] = max(0.0, float(size.square().sum()) - norm**2) ** 0.5 / max(1, len(size)) ** 0.5
        return found

    def gain(self, sent: Mapping[str, Tensor]) -> dict[str, float]:
        """Return the scale that is sent."""
        return {name: self._scale(g) for name, g in sent.items()} if self.biased else {}

    def __str__(self) -> str:
        return f"{self.name}:{self.levels},{_BIASED}" if self.biased else f"{self.name}:{self.levels}"
