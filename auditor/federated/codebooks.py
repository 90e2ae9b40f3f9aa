"""Compression to few levels of its own for every tensor: signs of the largest entries, clusters, blocks with a code."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import torch
from scipy import special
from torch import Tensor

from auditor.federated.sparsification import Sparsification
from auditor.records import Defence, Effect, straight_through

# Lloyd's iterations; a sorted line of numbers settles long before.
_ITERATIONS = 100
_MOST_LEVELS = 256
# Where the outermost of 16 quantiles of a normal distribution are taken (Dettmers et al. 2023, appendix E).
_OUTERMOST = 0.9677083


@dataclass(frozen=True)
class SparseTernary(Sparsification):
    """Send the signs of the largest entries of every parameter, times the mean magnitude over all of its entries.

    Sparse ternary compression (Sattler et al. 2020, arXiv 1903.02891) as OpenFL has it: its mean counts zeros too.
    """

    name: ClassVar[str] = "sparse-ternary"
    form: ClassVar[str] = "sparse-ternary:SHARE with 0 < SHARE <= 1"
    effect: ClassVar[Effect] = "sign"

    @property
    def told(self) -> str:
        """What it does."""
        return f"of the largest {self.share:.2%} of every parameter's entries the signs are sent, and one magnitude"

    def apply(self, update: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Return signs of the largest entries at one magnitude a parameter."""
        return {name: self._ternary(g) for name, g in update.items()}

    def simulate(self, ours: Mapping[str, Tensor], sent: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        """Return signs of ours where entries were sent, at the magnitude that was sent, straight through."""
        if sent is None:
            return {name: straight_through(g, self._ternary(g)) for name, g in ours.items()}
        made = {}
        for name, g in ours.items():
            kept = sent[name] != 0.0
            made[name] = straight_through(g * kept, g.detach().sign() * kept * _largest(sent[name]))
        return made

    def deviation(self, sent: Mapping[str, Tensor]) -> dict[str, float]:
        """Return the mean magnitude of the entries whose signs were sent: of more nothing is known."""
        return {name: float(_largest(g)) / self.share for name, g in sent.items()}

    def _ternary(self, g: Tensor) -> Tensor:
        size = g.detach().abs().flatten()
        if not len(size):
            return g.detach()
        kept = torch.zeros_like(size, dtype=torch.bool)
        kept[size.topk(math.ceil(self.share * len(size))).indices] = True
        return g.detach().sign() * kept.view_as(g) * (size * kept).mean()


@dataclass(frozen=True)
class Clusters(Defence):
    """Replace every entry by the mean of its cluster: k-means over the entries of each parameter (Lloyd 1982).

    Begun at quantiles, so that the same update gives the same clusters; OpenFL begins at random and keeps the best of
    several. A parameter of fewer entries than clusters is sent as it is.
    """

    name: ClassVar[str] = "kmeans"
    form: ClassVar[str] = f"kmeans:LEVELS with 2 <= LEVELS <= {_MOST_LEVELS}"
    effect: ClassVar[Effect] = "rounding"
    levels: int

    @classmethod
    def of(cls, number: str) -> Self:
        """Return the defence with so many clusters a parameter."""
        levels = int(number)
        if not 2 <= levels <= _MOST_LEVELS:
            raise ValueError(number)
        return cls(levels)

    @property
    def told(self) -> str:
        """What it does."""
        return f"entries are replaced by the means of {self.levels} clusters a parameter"

    def apply(self, update: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Return the update at the means of its clusters."""
        return {name: _nearest(g, self._means(g)) for name, g in update.items()}

    def simulate(self, ours: Mapping[str, Tensor], sent: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        """Return ours at the nearest of the means that were sent, straight through."""
        return {
            name: straight_through(g, _nearest(g, self._means(g) if sent is None else self._seen(sent[name])))
            for name, g in ours.items()
        }

    def deviation(self, sent: Mapping[str, Tensor]) -> dict[str, float]:
        """Return that of errors uniform within the cells of the means."""
        return {name: _cell_error(g, self._seen(g)) for name, g in sent.items()}

    def _seen(self, sent: Tensor) -> Tensor:
        """Return the levels that were used; none for a parameter that was sent as it is."""
        used: Tensor = torch.unique(sent.detach())
        return used if len(used) <= self.levels <= sent.numel() else used[:0]

    def _means(self, g: Tensor) -> Tensor:
        if g.numel() < self.levels:
            return g.detach().flatten()[:0]
        line = g.detach().flatten().double().sort().values
        total = torch.cat([line.new_zeros(1), line.cumsum(0)])
        places = (torch.arange(self.levels, device=line.device) + 0.5) / self.levels * (len(line) - 1)
        means: Tensor = torch.unique(line[places.round().long()])
        for _ in range(_ITERATIONS):
            ends = torch.searchsorted(line, (means[1:] + means[:-1]) / 2.0, right=True)
            bounds = torch.cat([ends.new_zeros(1), ends, ends.new_full((1,), len(line))])
            count = bounds.diff()
            moved = torch.where(count > 0, total[bounds].diff() / count.clamp(min=1), means)
            if torch.equal(moved, means):
                break
            means = moved
        return means.to(g.dtype)

    def __str__(self) -> str:
        return f"{self.name}:{self.levels}"


@dataclass(frozen=True)
class Blockwise(Defence):
    """Divide blocks of entries by their largest magnitude, and round to the nearest value of a code.

    Dettmers et al. 2022 (arXiv 2110.02861) for `dynamic8`, blocks of 4096; Dettmers et al. 2023 (arXiv 2305.14314) for
    `normal4`, and `float4`, blocks of 64: sizes and codes as bitsandbytes has them.
    """

    name: ClassVar[str] = "blockwise"
    form: ClassVar[str] = "blockwise:CODE with dynamic8, float4 or normal4"
    effect: ClassVar[Effect] = "rounding"
    code: str

    @classmethod
    def of(cls, number: str) -> Self:
        """Return the defence with this code."""
        if number not in _CODES:
            raise ValueError(number)
        return cls(number)

    @property
    def told(self) -> str:
        """What it does."""
        return f"entries are rounded to the code {self.code} of blocks of {self._block}"

    def apply(self, update: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Return the update as its code holds it."""
        return {name: self._rounded(g.detach()) for name, g in update.items()}

    def simulate(self, ours: Mapping[str, Tensor], sent: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        """Return ours as its code holds it, straight through."""
        return {name: straight_through(g, self._rounded(g.detach())) for name, g in ours.items()}

    def deviation(self, sent: Mapping[str, Tensor]) -> dict[str, float]:
        """Return that of errors uniform within the cells of the code, each as wide as its block makes it."""
        found = {}
        for name, g in sent.items():
            blocks, largest = self._blocks(g.detach())
            code = _CODES[self.code].to(blocks)
            cells = _widths(code)[_place(blocks / largest, code)] * largest
            found[name] = float(cells.double().square().mean().sqrt()) / math.sqrt(12.0) if g.numel() else 0.0
        return found

    @property
    def _block(self) -> int:
        return 4096 if self.code == "dynamic8" else 64

    def _blocks(self, g: Tensor) -> tuple[Tensor, Tensor]:
        """Return (block, entry), filled with zeros, and the largest magnitude of every block."""
        flat = g.flatten()
        count = -(-len(flat) // self._block)
        blocks = torch.nn.functional.pad(flat, (0, count * self._block - len(flat))).view(count, self._block)
        return blocks, blocks.abs().amax(1, keepdim=True).clamp(min=torch.finfo(g.dtype).tiny)

    def _rounded(self, g: Tensor) -> Tensor:
        blocks, largest = self._blocks(g)
        code = _CODES[self.code].to(blocks)
        return (code[_place(blocks / largest, code)] * largest).flatten()[: g.numel()].view_as(g)

    def __str__(self) -> str:
        return f"{self.name}:{self.code}"


def _dynamic8() -> Tensor:
    """Return 256 values: seven decades, the upper ones finer, 0 and 1 (Dettmers 2016, arXiv 1511.04561)."""
    found = [0.0, 1.0]
    for decade in range(7):
        edges = np.linspace(0.1, 1.0, 2**decade + 1)
        middle = 10.0 ** (decade - 6) * (edges[1:] + edges[:-1]) / 2.0
        found += [*middle, *-middle]
    return torch.tensor(sorted(found))


def _float4() -> Tensor:
    """Return 15 values of one sign, two exponent and one mantissa bits, over the largest; zero is there once."""
    above = [0.0625, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0]
    return torch.tensor(sorted([0.0, *above, *(-value for value in above)])) / 12.0


def _normal4() -> Tensor:
    """Return 16 quantiles of a normal distribution over the largest, of which one is zero."""
    above, below = (special.ndtri(np.linspace(_OUTERMOST, 0.5, count)[:-1]) for count in (9, 8))
    return torch.tensor(sorted([0.0, *above, *-below]), dtype=torch.float64).div(float(above.max()))


_CODES: Mapping[str, Tensor] = {"dynamic8": _dynamic8(), "float4": _float4(), "normal4": _normal4()}


def _place(values: Tensor, code: Tensor) -> Tensor:
    """Return the place of the nearest value of an ascending code."""
    return torch.bucketize(values.contiguous(), (code[1:] + code[:-1]) / 2.0)


def _nearest(g: Tensor, code: Tensor) -> Tensor:
    """Return the nearest values of an ascending code; g where there is none."""
    return code[_place(g.detach(), code)] if len(code) else g.detach()


def _widths(code: Tensor) -> Tensor:
    """Return how wide the cells of an ascending code are; the outer ones as far out as in."""
    if len(code) < 2:
        return torch.zeros_like(code)
    gaps = code.diff()
    return torch.cat([gaps[:1], (gaps[1:] + gaps[:-1]) / 2.0, gaps[-1:]])


def _cell_error(g: Tensor, code: Tensor) -> float:
    if not len(code):
        return 0.0
    return float(_widths(code.double())[_place(g.detach(), code)].square().mean().sqrt()) / math.sqrt(12.0)


def _largest(g: Tensor) -> Tensor:
    return g.detach().abs().amax() if g.numel() else g.new_zeros(())
