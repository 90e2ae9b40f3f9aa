"""Which part of an update counts in the matching: the largest entries, or earlier layers more."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from auditor.attack.matching.objective import Cosine, Objective


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
