"""Rounding after a random rotation, which makes all entries alike: EDEN."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import ClassVar, Self

import numpy as np
import torch
from scipy.linalg import solve_banded
from scipy.stats import norm
from torch import Tensor

from auditor.records import Defence, Effect

_MOST_BITS = 8
# OpenFL rotates twice, which is enough for any input (Vargaftik et al. 2022, appendix), and no less than 8 entries.
_ROTATIONS = 2
_LEAST_PADDED = 8
# More padding than this share of a parameter is not made: it is cut into powers of two (OpenFL 1.9).
_MOST_PADDING = 0.1
# Lloyd's rounds, which settle slowly and always, before Newton's, of which three to five are enough from there.
_LLOYD = 200
_ROUNDS = _LLOYD + 20
_SETTLED = 1e-9


@dataclass(frozen=True)
class Eden(Defence):
    """Rotate each parameter at random, round to the Lloyd-Max levels of a normal distribution, and rotate back.

    EDEN (Vargaftik et al. 2022, PMLR 162:21984): the rotation is a randomised Hadamard transform of the parameter,
    padded with zeros to a power of two, and the scale ||x||^2 / <levels, x> makes the result right on average. Where
    padding would be more than a tenth, the largest power of two of it is rotated by itself, as OpenFL does.
    Parameters of at most `size` entries are sent as they are. Who reads the update knows the rotation.
    """

    name: ClassVar[str] = "eden"
    form: ClassVar[str] = f"eden:BITS,SIZE with 1 <= BITS <= {_MOST_BITS} and SIZE >= 0"
    effect: ClassVar[Effect] = "noise"
    bits: int
    size: int

    @classmethod
    def of(cls, number: str) -> Self:
        """Return the defence with so many bits, for parameters of more than this size."""
        bits, size = (int(n) for n in number.split(","))
        if not 1 <= bits <= _MOST_BITS or size < 0:
            raise ValueError(number)
        return cls(bits, size)

    @property
    def told(self) -> str:
        """What it does."""
        return f"parameters of more than {self.size} entries are rotated at random and rounded to {self.bits} bits"

    def apply(self, update: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Return the update as it is read again: rotated, rounded, scaled and rotated back."""
        return {n: self._rounded(g, generator) if g.numel() > self.size else g for n, g in update.items()}

    def simulate(self, ours: Mapping[str, Tensor], sent: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        """Return ours: rounding is right on average."""
        return dict(ours)

    def deviation(self, sent: Mapping[str, Tensor]) -> dict[str, float]:
        """Return sqrt(sum_s ||x_s||^2 n_s r / P_s / n), r = D / (1 - D) for a distortion D of the levels.

        Of each part s of n_s entries, P_s with padding; ||sent_s||^2 is ||x_s||^2 (1 + n_s r / P_s), as errors are at
        right angles to x.
        """
        distortion = 1.0 - float(_levels(self.bits).energy)
        ratio, found = distortion / (1.0 - distortion), {}
        for name, g in sent.items():
            if g.numel() <= self.size:
                found[name] = 0.0
                continue
            total = 0.0
            for part in torch.split(g.detach().double().flatten(), _parts(g.numel())):
                share = len(part) * ratio / _padded(len(part))
                total += float(part.square().sum()) * share / (1.0 + share)
            found[name] = math.sqrt(total / g.numel())
        return found

    def _rounded(self, g: Tensor, generator: torch.Generator) -> Tensor:
        parts = torch.split(g.detach().double().flatten(), _parts(g.numel()))
        return torch.cat([self._rotated(part, generator) for part in parts]).view_as(g).to(g)

    def _rotated(self, part: Tensor, generator: torch.Generator) -> Tensor:
        size = _padded(len(part))
        x = torch.zeros(size, dtype=torch.float64, device=part.device)
        x[: len(part)] = part
        signs = [
            (2.0 * torch.randint(0, 2, (size,), generator=generator) - 1.0).to(x) for _ in range(_ROTATIONS)
        ]  # drawn on the CPU, as every generator of a client is
        for sign in signs:
            x = hadamard(x * sign)
        length = x.norm()
        if length == 0.0:
            return part
        levels = torch.from_numpy(_levels(self.bits).centroids).to(x)
        at = levels[torch.bucketize(x * math.sqrt(size) / length, (levels[1:] + levels[:-1]) / 2.0)]
        x = at * (length.square() / (at @ x))
        for sign in reversed(signs):
            x = hadamard(x) * sign
        return x[: len(part)]

    def __str__(self) -> str:
        return f"{self.name}:{self.bits},{self.size}"


def _parts(entries: int) -> list[int]:
    """Return how many entries of a parameter are rotated together: the last part alone is padded."""
    parts, left = [], entries
    while _power(left) - left > _MOST_PADDING * entries:
        parts.append(1 << (left.bit_length() - 1))
        left -= parts[-1]
    return [*parts, left] if left else parts


def _padded(entries: int) -> int:
    return max(_LEAST_PADDED, _power(entries))


def _power(entries: int) -> int:
    """Return the least power of two that is not below."""
    return 1 << max(0, entries - 1).bit_length()


def hadamard(x: Tensor) -> Tensor:
    """Return H x / sqrt(d) for x of d entries, a power of two; H is Sylvester's, and the result its own inverse."""
    size = len(x)
    half = 1
    while half < size:
        pairs = x.view(-1, 2, half)
        x = torch.stack((pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]), 1).flatten()
        half *= 2
    return x / math.sqrt(size)


@dataclass(frozen=True)
class _Levels:
    centroids: np.ndarray
    energy: float


@cache
def _levels(bits: int) -> _Levels:
    """Return the 2^bits levels of least mean squared error for a standard normal (Lloyd 1982; Max 1960), and E c^2.

    Each level is the mean of its cell, hence E c z = E c^2, and the distortion is 1 - E c^2.
    """
    count = 1 << bits
    # Panter & Dite 1951: their density goes with the cube root of what they stand for, a normal of variance 3.
    c = norm.ppf((np.arange(count) + 0.5) / count, scale=math.sqrt(3.0))
    for turn in range(_ROUNDS):
        edges = (c[1:] + c[:-1]) / 2.0
        height = np.concatenate(([0.0], norm.pdf(edges), [0.0]))
        mass = np.diff(norm.cdf(edges), prepend=0.0, append=1.0)
        mean = -np.diff(height) / mass
        if turn < _LLOYD:
            c = mean
            continue
        off = (mean - c) * mass
        # Newton's: how a cell's mean error changes with its two edges, each of which is half of two levels.
        left, right = height[1:-1] * (edges - c[1:]) / 2.0, height[1:-1] * (edges - c[:-1]) / 2.0
        middle = np.append(right, 0.0) - np.append(0.0, left) - mass
        step = solve_banded((1, 1), (np.append(0.0, right), middle, np.append(-left, 0.0)), off)
        c = c - step
        if np.abs(step).max() < _SETTLED:
            break
    return _Levels(c, float((mass * c**2).sum()))
