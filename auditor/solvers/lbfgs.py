"""Limited-memory BFGS as a step rule."""

from dataclasses import dataclass

from torch import Tensor

from auditor.solvers.line_search import Backtracking
from auditor.solvers.step_rule import Mover, Problem


@dataclass(frozen=True)
class Lbfgs:
    """L-BFGS (Liu & Nocedal 1989), the optimiser of DLG (Zhu et al. 2019, arXiv 1906.08935), with backtracking.

    Fast where the objective is smooth and does not change on the way; priors that anneal slowly do no harm.

    Attributes
    ----------
    memory
        How many pairs of steps and gradient changes are kept.
    """

    memory: int = 20
    cost: int = 1

    def bind(self, variable: Tensor, problem: Problem) -> Mover:
        """Return the rule with an empty memory."""
        return Backtracking(variable, _TwoLoops(self.memory, problem.rate), problem.rate)


class _TwoLoops:
    """The two-loop recursion (Nocedal & Wright 2006, algorithm 7.4)."""

    def __init__(self, memory: int, rate: float) -> None:
        self._memory, self._rate = memory, rate
        self._pairs: list[tuple[Tensor, Tensor, float]] = []

    def direction(self, variable: Tensor, gradient: Tensor, progress: float) -> Tensor:
        if not self._pairs:
            return -gradient * (self._rate / gradient.abs().amax().clamp(min=1e-30))
        q, shares = gradient.clone(), []
        for s, y, curvature in reversed(self._pairs):
            share = float((s * q).sum()) / curvature
            shares.append(share)
            q -= share * y
        s, y, curvature = self._pairs[-1]
        q *= curvature / float(y.square().sum())
        for (s, y, curvature), share in zip(self._pairs, reversed(shares), strict=True):
            q += s * (share - float((y * q).sum()) / curvature)
        return -q

    def learn(self, moved: Tensor, changed: Tensor, halvings: int) -> None:
        curvature = float((moved * changed).sum())
        # Only steps along which the loss curves upwards keep the approximate Hessian positive.
        if curvature > 1e-10 * float(moved.norm() * changed.norm()) > 0.0:
            self._pairs = [*self._pairs, (moved, changed, curvature)][-self._memory :]

    def forget(self) -> None:
        self._pairs = []
