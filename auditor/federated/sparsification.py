"""Parts of an update that are not sent: random entries, the smallest of all, whole parameters."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import ClassVar, Self

import torch
from torch import Tensor

from auditor.records import Defence, Effect, written


@dataclass(frozen=True)
class Sparsification(Defence):
    """Send a share of the entries, and zero for the rest."""

    effect: ClassVar[Effect] = "mask"
    share: float

    @classmethod
    def of(cls, number: str) -> Self:
        """Return the defence with this share, above 0 and at most 1."""
        share = float(number)
        if not 0.0 < share <= 1.0:
            raise ValueError(number)
        return cls(share)

    def __str__(self) -> str:
        return f"{self.name}:{written(self.share)}"


def seen(ours: Mapping[str, Tensor], sent: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the entries of ours that were sent: those that are not zero there."""
    return {name: g * (sent[name] != 0.0) for name, g in ours.items()}


def within(ours: Mapping[str, Tensor], sent: Mapping[str, Tensor], *, together: bool) -> dict[str, Tensor]:
    """Return the entries of ours that were sent, and of the others what exceeds the smallest that was.

    None does at the truth, as the largest are sent: of each parameter, or of all `together`. Magnitudes are compared
    in units of what was sent, because a later defence may have scaled it.
    """
    groups = [list(ours)] if together else [[name] for name in ours]
    made: dict[str, Tensor] = {}
    for names in groups:
        kept = [(ours[n].detach()[sent[n] != 0.0], sent[n][sent[n] != 0.0]) for n in names]
        mine, theirs = (torch.cat(parts) for parts in zip(*kept, strict=True))
        if not len(theirs):
            made |= seen({n: ours[n] for n in names}, sent)
            continue
        least = theirs.abs().min() * mine.norm() / theirs.norm()
        for n in names:
            made[n] = torch.where(sent[n] != 0.0, ours[n], ours[n] - ours[n].clamp(-least, least))
    return made


@dataclass(frozen=True)
class RandomK(Sparsification):
    """Send a random share of every parameter's entries as they are, and zero for the rest (Stich et al. 2018).

    arXiv 1809.07599, by parameter; at least one entry of each is sent. Draws are the client's own.
    """

    name: ClassVar[str] = "random-k"
    form: ClassVar[str] = "random-k:SHARE with 0 < SHARE <= 1"

    @property
    def told(self) -> str:
        """What it does."""
        return f"a random {self.share:.2%} of every parameter's entries is sent"

    def apply(self, update: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Return the update with all but the drawn entries at zero."""
        made = {}
        for name, g in update.items():
            kept = torch.zeros(g.numel(), dtype=torch.bool)
            count = max(1, round(self.share * g.numel()))
            kept[torch.randperm(g.numel(), generator=generator)[:count]] = True
            made[name] = g * kept.view_as(g).to(g.device)
        return made

    def simulate(self, ours: Mapping[str, Tensor], sent: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        """Return the entries of ours that were sent; all of them where that cannot be seen."""
        return dict(ours) if sent is None else seen(ours, sent)


@dataclass(frozen=True)
class Prune(Sparsification):
    """Set the smallest share of all entries to zero, over all parameters together (Zhu et al. 2019, section 5.2).

    arXiv 1906.08935. Of equal magnitudes at the threshold all are sent.
    """

    name: ClassVar[str] = "prune"
    form: ClassVar[str] = "prune:SHARE with 0 < SHARE < 1, the share that is set to zero"

    @classmethod
    def of(cls, number: str) -> Self:
        """Return the defence that leaves this share out, which is not all."""
        made = super().of(number)
        if made.share == 1.0:
            raise ValueError(number)
        return made

    @property
    def told(self) -> str:
        """What it does."""
        return f"the smallest {self.share:.2%} of all entries are set to zero"

    def apply(self, update: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Return the update with its smallest entries at zero."""
        return self.simulate(update, None)

    def simulate(self, ours: Mapping[str, Tensor], sent: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        """Return the entries of ours that were sent, where that can be seen, and what the others have too much."""
        if sent is not None:
            return within(ours, sent, together=True)
        size = torch.cat([g.detach().abs().flatten() for g in ours.values()])
        # As many as lie below numpy's percentile, which is between two of them.
        left_out = math.ceil(self.share * (len(size) - 1))
        least = float(size.kthvalue(left_out + 1).values)
        return {name: g * (g.detach().abs() >= least) for name, g in ours.items()}


@dataclass(frozen=True)
class Exclude(Defence):
    """Leave whole parameters out of what is sent; they are trained all the same."""

    name: ClassVar[str] = "exclude"
    form: ClassVar[str] = "exclude:GLOB over parameter names"
    effect: ClassVar[Effect] = "omission"
    pattern: str

    @classmethod
    def of(cls, number: str) -> Self:
        """Return the defence that leaves out what matches."""
        if not number:
            raise ValueError(number)
        return cls(number)

    @property
    def told(self) -> str:
        """What it does."""
        return f"parameters matching {self.pattern} are trained and not sent"

    def matches(self, name: str) -> bool:
        """Tell whether a parameter is left out."""
        return fnmatchcase(name, self.pattern)

    def apply(self, update: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Return the update without what matches."""
        return {name: g for name, g in update.items() if not self.matches(name)}

    def simulate(self, ours: Mapping[str, Tensor], sent: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        """Return ours without what matches."""
        return {name: g for name, g in ours.items() if not self.matches(name)}

    def __str__(self) -> str:
        return f"{self.name}:{self.pattern}"


@dataclass(frozen=True)
class ExcludeRegex(Exclude):
    """Leave out the parameters in whose names a regular expression is found; they are trained all the same."""

    name: ClassVar[str] = "exclude-regex"
    form: ClassVar[str] = "exclude-regex:EXPRESSION found in parameter names"

    @classmethod
    def of(cls, number: str) -> Self:
        """Return the defence that leaves out what matches."""
        try:
            re.compile(number)
        except re.error as error:
            raise ValueError(number) from error
        return super().of(number)

    def matches(self, name: str) -> bool:
        """Tell whether a parameter is left out."""
        return re.search(self.pattern, name) is not None
