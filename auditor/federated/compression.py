"""Compression of updates: top-k sparsification, signs, quantisation, half precision."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from auditor.federated.sparsification import Sparsification, within
from auditor.records import Defence, Effect, straight_through


@dataclass(frozen=True)
class TopK(Sparsification):
    """Send a share of every parameter's entries, the largest by magnitude, and zero for the rest.

    Aji & Heafield 2017 (arXiv 1704.05021), by parameter. At least one entry of each is sent.
    """

    name: ClassVar[str] = "top-k"
    form: ClassVar[str] = "top-k:SHARE with 0 < SHARE <= 1"

    @property
    def told(self) -> str:
        """What it does."""
        return f"the largest {self.share:.2%} of every parameter's entries are sent"

    def apply(self, update: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Return the update with its small entries at zero."""
        return self._sparse(update)

    def simulate(self, ours: Mapping[str, Tensor], sent: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        """Return the entries of ours that were sent, where that can be seen, and what the others have too much."""
        return self._sparse(ours) if sent is None else within(ours, sent, together=False)

    def _sparse(self, update: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: g * self._largest(g) for name, g in update.items()}

    def _largest(self, g: Tensor) -> Tensor:
        """Return a mask of the entries that are sent."""
        size = g.detach().abs().flatten()
        kept = torch.zeros_like(size, dtype=torch.bool)
        if len(size):
            kept[size.topk(max(1, int(self.share * len(size)))).indices] = True
        return kept.view_as(g)


class Numberless(Defence):
    """A defence that has no number."""

    @classmethod
    def of(cls, number: str) -> Self:
        """Return the defence; it has no number."""
        if number:
            raise ValueError(number)
        return cls()

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Sign(Numberless):
    """Send every entry's sign, times the mean magnitude of its parameter.

    signSGD (Bernstein et al. 2018, arXiv 1802.04434) with the scale of Karimireddy et al. 2019 (arXiv 1901.09847).
    """

    name: ClassVar[str] = "sign"
    form: ClassVar[str] = "sign"
    effect: ClassVar[Effect] = "sign"

    @property
    def told(self) -> str:
        """What it does."""
        return "of every entry its sign is sent, and of every parameter the mean magnitude"

    def apply(self, update: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Return the signs at the scale of their parameter."""
        return {name: g.sign() * _mean(g) for name, g in update.items()}

    def simulate(self, ours: Mapping[str, Tensor], sent: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        """Return the signs of ours at the scale that was sent, straight through."""
        scale = {name: _mean(g) if sent is None else _largest(sent[name]) for name, g in ours.items()}
        return {name: straight_through(g, g.sign() * scale[name]) for name, g in ours.items()}

    def deviation(self, sent: Mapping[str, Tensor]) -> dict[str, float]:
        """Return what signs leave open of normal entries, as noise: their deviation s times sqrt(pi / 2 - 1).

        A normal entry's sign, times the mean magnitude, is 2/pi of it and a rest without correlation (Bussgang 1952);
        the mean magnitude is s sqrt(2 / pi).
        """
        return {name: math.sqrt((math.pi / 2.0 - 1.0) * math.pi / 2.0) * float(_largest(g)) for name, g in sent.items()}


@dataclass(frozen=True)
class Quantise(Defence):
    """Round every entry to one of 2^bits - 1 levels, symmetric about zero, up to the largest of its parameter."""

    name: ClassVar[str] = "quantise"
    form: ClassVar[str] = "quantise:BITS with 2 <= BITS <= 16"
    effect: ClassVar[Effect] = "rounding"
    bits: int

    @classmethod
    def of(cls, number: str) -> Self:
        """Return the defence with this many bits an entry."""
        bits = int(number)
        if not 2 <= bits <= 16:
            raise ValueError(number)
        return cls(bits)

    @property
    def told(self) -> str:
        """What it does."""
        return f"entries are rounded to {2**self.bits - 1} levels a parameter"

    def apply(self, update: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Return the update at its nearest levels."""
        return {name: self._rounded(g, _largest(g)) for name, g in update.items()}

    def simulate(self, ours: Mapping[str, Tensor], sent: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        """Return what was sent where ours rounds to it, and beside it what of ours lies outside that interval.

        Where it cannot be seen, ours at the nearest level, straight through.
        """
        if sent is None:
            return {name: straight_through(g, self._rounded(g, _largest(g))) for name, g in ours.items()}
        made = {}
        for name, g in ours.items():
            half = self._step(_largest(sent[name])) / 2.0
            made[name] = sent[name] + (g - torch.minimum(torch.maximum(g, sent[name] - half), sent[name] + half))
        return made

    def deviation(self, sent: Mapping[str, Tensor]) -> dict[str, float]:
        """Return that of an error uniform within half a step."""
        levels = 2 ** (self.bits - 1) - 1
        return {name: float(_largest(g)) / levels / math.sqrt(12.0) for name, g in sent.items()}

    def _rounded(self, g: Tensor, largest: Tensor) -> Tensor:
        levels, step = 2 ** (self.bits - 1) - 1, self._step(largest)
        return (g / step).round().clamp(-levels, levels) * step

    def _step(self, largest: Tensor) -> Tensor:
        """Return the distance of two levels."""
        return (largest / (2 ** (self.bits - 1) - 1)).clamp(min=1e-30)

    def __str__(self) -> str:
        return f"{self.name}:{self.bits}"


@dataclass(frozen=True)
class Float16(Numberless):
    """Send IEEE half precision: 11 bits, nothing below 6e-8 and nothing above 65504, at which entries are cut."""

    name: ClassVar[str] = "float16"
    form: ClassVar[str] = "float16"
    effect: ClassVar[Effect] = "precision"

    @property
    def told(self) -> str:
        """What it does."""
        return "entries are rounded to half precision"

    def apply(self, update: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Return the update as half precision holds it."""
        return {name: _halved(g) for name, g in update.items()}

    def simulate(self, ours: Mapping[str, Tensor], sent: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        """Return ours as half precision holds it, straight through."""
        return {name: straight_through(g, _halved(g)) for name, g in ours.items()}

    def deviation(self, sent: Mapping[str, Tensor]) -> dict[str, float]:
        """Return that of errors uniform within half a unit of each entry's last place."""
        return {name: _last_place(g) / math.sqrt(12.0) for name, g in sent.items() if g.numel()}


@dataclass(frozen=True)
class Unchanged(Numberless):
    """Send the update as it is: what a framework's compression amounts to where its numbers switch it off."""

    name: ClassVar[str] = "unchanged"
    form: ClassVar[str] = "unchanged"
    effect: ClassVar[Effect] = "omission"

    @property
    def told(self) -> str:
        """What it does."""
        return "updates are sent as they are: with these numbers nothing is compressed"

    def apply(self, update: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Return the update."""
        return dict(update)

    def simulate(self, ours: Mapping[str, Tensor], sent: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        """Return ours."""
        return dict(ours)


def _halved(g: Tensor) -> Tensor:
    largest = torch.finfo(torch.float16).max
    return g.detach().clamp(-largest, largest).half().to(g)


def _last_place(g: Tensor) -> float:
    """Return the root mean square of the unit of the last place: 2^-10 of the power of two below, 2^-24 at least."""
    exponent = torch.frexp(g.double()).exponent - 1
    return float(torch.exp2((exponent - 10).clamp(min=-24).double()).square().mean().sqrt())


def _mean(g: Tensor) -> Tensor:
    return g.detach().abs().mean() if g.numel() else g.new_zeros(())


def _largest(g: Tensor) -> Tensor:
    return g.detach().abs().amax() if g.numel() else g.new_zeros(())
