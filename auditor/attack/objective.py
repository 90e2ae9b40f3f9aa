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
