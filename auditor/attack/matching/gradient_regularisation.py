"""Gradient regularisation: descend where the matching objective is low and flat."""

from dataclasses import dataclass

import torch
from torch import Tensor

from auditor.records import Clips
from auditor.solvers.descent import Objective


@dataclass(frozen=True)
class GradientRegularised:
    """D + l ||grad_x D||, whose gradient is the blend (1 - b) grad D(x) + b grad D(x + rho grad D / ||grad D||).

    The finite difference grad D(x + rho u) - grad D(x) = rho H u, u the unit gradient, is that of the norm's own
    gradient H u, so b = l / rho (Zhao et al. 2022, arXiv 2202.03599, eq. 8; used by FedLeak, Fan et al. 2025, arXiv
    2506.08435). A step costs two evaluations.

    Attributes
    ----------
    rho
        Length of the step to the second point, in the units of the clip's Euclidean norm.
    blend
        b, the share of the gradient at the second point.
    """

    rho: float = 0.05
    blend: float = 0.5

    def __call__(self, objective: Objective) -> Objective:
        """Return an objective with the value and score of the given one, and the blended slope."""

        def regularised(clips: Clips, progress: float) -> tuple[Tensor, Tensor]:
            here = clips.detach().requires_grad_(True)
            value, score = objective(here, progress)
            (slope,) = torch.autograd.grad(value, here)
            there = (here + self.rho * slope / slope.norm().clamp(min=1e-30)).detach().requires_grad_(True)
            (ahead,) = torch.autograd.grad(objective(there, progress)[0], there)
            slope = (1.0 - self.blend) * slope + self.blend * ahead
            # Linear in the clips: the value of the objective, and the blend as its derivative.
            return value.detach() + (slope * (clips - clips.detach())).sum(), score

        return regularised
