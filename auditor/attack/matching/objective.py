"""How far a candidate's gradient is from the observed one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor


@runtime_checkable
class Objective(Protocol):
    """A differentiable distance of two updates; 0 when they agree."""

    def __call__(self, ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> Float[Tensor, ""]:
        """Return the distance."""
        ...


@dataclass(frozen=True)
class Cosine:
    """1 - <g, g*> / (||g|| ||g*||) over everything sent, in [0, 2] (Geiping et al. 2020, arXiv 2003.14053, eq. 4)."""

    def __call__(self, ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> Float[Tensor, ""]:
        """Return the cosine distance."""
        inner = torch.stack([(ours[n] * g).sum() for n, g in theirs.items()]).sum()
        mine = torch.stack([ours[n].square().sum() for n in theirs]).sum()
        other = torch.stack([g.square().sum() for g in theirs.values()]).sum()
        return 1.0 - inner / (mine.sqrt() * other.sqrt()).clamp(min=1e-30)


@dataclass(frozen=True)
class SquaredError:
    """||g - g*||^2 / ||g*||^2 (DLG, Zhu et al. 2019, arXiv 1906.08935, normalised)."""

    def __call__(self, ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> Float[Tensor, ""]:
        """Return the relative squared error."""
        off = torch.stack([(ours[n] - g).square().sum() for n, g in theirs.items()]).sum()
        other = torch.stack([g.square().sum() for g in theirs.values()]).sum()
        return off / other.clamp(min=1e-30)


@dataclass(frozen=True)
class RowCosine:
    """Cosine distance in which every output channel (row of a parameter) weighs ||g*_row||^-2a.

    With a = 0 this is `Cosine`; with a = 1 every row counts alike. Rows with small gradients carry as much of the clip
    as others, but a plain cosine hardly sees them. Derived for this project, after the layer weights of Geiping et al.
    2020 (arXiv 2003.14053).
    """

    power: float = 0.5

    def __call__(self, ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> Float[Tensor, ""]:
        """Return the weighted cosine distance, in [0, 2]."""
        inner, mine, other = [], [], []
        for name, g in theirs.items():
            rows = g.reshape(len(g), -1) if g.ndim > 1 else g.reshape(1, -1)
            weight, guess = row_weights(g, self.power), ours[name].reshape(rows.shape)
            inner.append((weight * (guess * rows).sum(dim=1)).sum())
            mine.append((weight * guess.square().sum(dim=1)).sum())
            other.append((weight * rows.square().sum(dim=1)).sum())
        norms = torch.stack(mine).sum().sqrt() * torch.stack(other).sum().sqrt()
        return 1.0 - torch.stack(inner).sum() / norms.clamp(min=1e-30)


# Rows a million times weaker than their parameter's mean are rounding, not signal.
_FLOOR = 1e-6


def row_weights(gradient: Tensor, power: float) -> Float[Tensor, " row"]:
    """Return ||g_row||^-2a by output channel, floored; a vector (a bias) is one row; a zero gradient weighs nothing."""
    rows = gradient.reshape(len(gradient), -1) if gradient.ndim > 1 else gradient.reshape(1, -1)
    energy = rows.square().sum(dim=1)
    total = energy.sum()
    weights = (energy + _FLOOR * total / len(rows)) ** -power
    return torch.where(total > 0.0, weights, torch.zeros_like(weights))
