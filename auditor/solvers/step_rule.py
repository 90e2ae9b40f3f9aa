"""Step rules: how the loop moves its variable, given the loss and its gradient there."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from auditor.solvers.schedule import soft_sign


@dataclass(frozen=True)
class Problem:
    """What a rule may ask about the problem besides the gradient that the loop hands it.

    Attributes
    ----------
    rate
        The schedule's peak step size.
    """

    rate: float


class Mover(Protocol):
    """A rule at work on one variable; it may keep a memory."""

    def step(self, loss: float, gradient: Tensor, progress: float, size: float) -> None:
        """Move the variable in place: `loss` and `gradient` are those where it is now, `size` the schedule's."""
        ...


@runtime_checkable
class StepRule(Protocol):
    """A way to move. The loop evaluates, keeps the best iterate and counts, whatever the rule."""

    @property
    def cost(self) -> int:
        """What one step costs, in evaluations of the objective and its gradient."""
        ...

    def bind(self, variable: Tensor, problem: Problem) -> Mover:
        """Return the rule at work on this variable."""
        ...


@dataclass(frozen=True)
class SoftSign:
    """Adam (Kingma & Ba 2015, arXiv 1412.6980) on soft-signed gradients, one clip's scale apart from another's."""

    betas: tuple[float, float] = (0.9, 0.99)
    cost: int = 1

    def bind(self, variable: Tensor, problem: Problem) -> "Mover":
        """Return Adam with empty moments."""
        return _Adam(variable, self.betas, problem.rate)


class _Adam:
    def __init__(self, variable: Tensor, betas: tuple[float, float], rate: float) -> None:
        self._variable = variable
        self._adam = torch.optim.Adam([variable], lr=rate, betas=betas)

    def step(self, loss: float, gradient: Tensor, progress: float, size: float) -> None:
        self._adam.param_groups[0]["lr"] = size
        self._variable.grad = soft_sign(gradient)
        self._adam.step()
