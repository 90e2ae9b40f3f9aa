"""Which part of an update counts in the matching: weights by parameter, and the largest entries only."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import torch
from jaxtyping import Float
from torch import Tensor

from auditor.attack.matching.objective import Cosine, Objective


@dataclass(frozen=True)
class Weighted:
    """An objective of both updates scaled parameter by parameter: entries of parameter n by sqrt(w_n).

    For squared errors this is sum_n w_n ||g_n - g*_n||^2, for the cosine the angle under the weighted inner product
    (layer weights as in Geiping et al. 2020, arXiv 2003.14053, appendix). A weight of 0 leaves the parameter out, so
    this is also how one layer is matched alone.

    Attributes
    ----------
    weights
        (pattern, weight) pairs; a parameter takes the weight of the first pattern (shell style) that its name matches.
    otherwise
        The weight of a parameter that matches none.
    """

    weights: tuple[tuple[str, float], ...]
    otherwise: float = 1.0
    objective: Objective = field(default_factory=Cosine)

    def __call__(self, ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> Float[Tensor, ""]:
        """Return the distance; an update of which nothing counts is 0 away from any other."""
        scale = {name: self.weight(name) ** 0.5 for name in theirs}
        kept = [name for name, s in scale.items() if s > 0.0]
        if not kept:
            return torch.stack([ours[n].sum() for n in theirs]).sum() * 0.0
        return self.objective({n: ours[n] * scale[n] for n in kept}, {n: theirs[n] * scale[n] for n in kept})

    def weight(self, name: str) -> float:
        """Return the weight of one parameter."""
        return next((w for pattern, w in self.weights if fnmatchcase(name, pattern)), self.otherwise)


@dataclass(frozen=True)
class LargestEntries:
    """An objective of the entries with the largest |g*| only, a `share` of each parameter's, at least one.

    Partial gradient matching (FedLeak, Fan et al. 2025, arXiv 2506.08435): small entries are mostly noise to the
    matching problem. Taken by parameter, so that no layer falls silent.
    """

    share: float = 0.3
    objective: Objective = field(default_factory=Cosine)

    def __call__(self, ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> Float[Tensor, ""]:
        """Return the distance of what is left."""
        masks = {name: self.mask(g) for name, g in theirs.items()}
        return self.objective({n: ours[n] * m for n, m in masks.items()}, {n: theirs[n] * m for n, m in masks.items()})

    def mask(self, gradient: Tensor) -> Tensor:
        """Return 1 where an entry counts, else 0; ties at the threshold all count."""
        size = gradient.abs().flatten()
        least = size.topk(max(1, round(self.share * len(size)))).values[-1]
        return (gradient.abs() >= least).to(gradient.dtype)


@dataclass(frozen=True)
class Tag:
    """sum_n ||g_n - g*_n||^2 + a_n ||g_n - g*_n||_1, over ||g*||^2 (TAG, Deng et al. 2021, arXiv 2103.06819, eq. 4-5).

    The paper's weight a_n falls with the order of the layer; here linearly from `weight` at the first parameter, in
    units of ||g*|| over the number of entries, which makes the distance independent of the update's scale.
    """

    weight: float = 0.1

    def __call__(self, ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> Float[Tensor, ""]:
        """Return the distance."""
        energy = torch.stack([g.square().sum() for g in theirs.values()]).sum().clamp(min=1e-30)
        entries = sum(g.numel() for g in theirs.values())
        unit = energy.sqrt() / entries**0.5
        terms = []
        for position, (name, g) in enumerate(theirs.items()):
            off = ours[name] - g
            weight = self.weight * (1.0 - position / len(theirs)) * unit
            terms.append(off.square().sum() + weight * off.abs().sum())
        return torch.stack(terms).sum() / energy
