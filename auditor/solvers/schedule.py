"""How a gradient becomes a step, and how steps and priors change over a run."""

import math
from dataclasses import dataclass

from torch import Tensor


def soft_sign(gradient: Tensor) -> Tensor:
    """tanh(g / std(g)): keeps the sign, tames outliers, keeps small entries small; per clip."""
    scale = gradient.flatten(1).std(dim=1).clamp(min=1e-30)
    return (gradient / scale.view(-1, *[1] * (gradient.ndim - 1))).tanh()


@dataclass(frozen=True)
class Schedule:
    """Step size and prior weight as functions of progress in [0, 1].

    Attributes
    ----------
    rate
        Adam's step size at its peak, in pixel units of [0, 1].
    warm_up
        Share of the run in which the step size grows from zero.
    anneal
        What is left of the priors at the end: they decay geometrically, because a constant total variation is a
        ceiling (started at the truth it drifts away from it) and none at all lets the objective be overfitted.
    """

    rate: float = 0.1
    warm_up: float = 0.05
    anneal: float = 1.0

    def step_size(self, progress: float) -> float:
        """Linear warm-up, then half a cosine."""
        if progress < self.warm_up:
            return self.rate * (progress + 1e-3) / self.warm_up
        return self.rate * 0.5 * (1.0 + math.cos(math.pi * (progress - self.warm_up) / (1.0 - self.warm_up)))

    def prior_weight(self, progress: float) -> float:
        """1 at the start, `anneal` at the end."""
        return float(self.anneal**progress)
