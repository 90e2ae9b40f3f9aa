"""Gradient matching for clips, composed from parts."""

import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from auditor.attack.curvature import SurrogateCurvature
from auditor.attack.interface import Attack
from auditor.attack.loop import Run, descend
from auditor.attack.objective import Cosine, Objective
from auditor.attack.prior import Prior, SpatialVariation, TemporalVariation
from auditor.attack.start import Grey, ReferenceFrame, Start
from auditor.attack.statistics import statistics_distance
from auditor.attack.step import Schedule
from auditor.records import BatchStatistics, Budget, Clips, Label, Reconstruction, Skipped, View

# Below this the objective has hardly left its start; measured on the three-layer nets of the benchmarks.
LEAST_STEPS = 60


@dataclass(frozen=True, kw_only=True)
class GradientMatching(Attack):
    """min over x in [0, 1] of objective(g(x, y), g*) + priors(x), from several starts.

    Attributes
    ----------
    tau
        Relative width of the surrogate curvature of ReLU; 0 turns it off.
    statistics
        Weight of the batch statistics that BatchNorm buffers give away, where a client sends them.
    restarts
        Descents from different seeds; the lowest objective wins, which is all that the attacker can see.
    """

    name: str = "gradient-matching"
    title: str = "Gradient matching"
    source: str = "Geiping et al. 2020 (arXiv 2003.14053), with temporal total variation"
    objective: Objective = field(default_factory=Cosine)
    priors: tuple[Prior, ...] = (TemporalVariation(0.3), SpatialVariation(0.03))
    start: Start = field(default_factory=Grey)
    schedule: Schedule = field(default_factory=lambda: Schedule(anneal=0.03))
    tau: float = 0.3
    statistics: float = 0.1
    restarts: int = 1

    def obstacle(self, view: View) -> str | None:
        """Need a gradient that is not zero, and a reference frame for R1."""
        if isinstance(self.start, ReferenceFrame) and view.knowledge.reference is None:
            return "this attacker has no reference frame"
        if all(float(g.abs().max()) == 0.0 for g in view.update.gradients.values()):
            return "the update is zero"
        return None

    def invert(self, view: View, budget: Budget, seed: int) -> Reconstruction | Skipped:
        """Descend from every start and keep the lowest objective."""
        device = next(iter(view.update.gradients.values())).device
        target = view.client.targets(_labels(view))
        observed = dict(view.update.gradients)
        wanted = self._statistics(view, device)
        return self.search(lambda x: self._distance(view, observed, wanted, x, target), view, budget, seed)

    def search(
        self, objective: Callable[[Clips], Tensor], view: View, budget: Budget, seed: int
    ) -> Reconstruction | Skipped:
        """Minimise any objective of the clips with this attack's priors, starts and schedule."""
        device = next(iter(view.update.gradients.values())).device
        runs: list[Run] = []
        for restart in range(self.restarts):
            start = self.start(view.knowledge, torch.Generator().manual_seed(seed * 1000 + restart)).to(device)
            run = descend(
                objective,
                lambda x: self._penalty(x, view),
                start,
                self.schedule,
                _share(budget, restart, self.restarts),
                LEAST_STEPS,
            )
            if isinstance(run, float):
                if runs:
                    break
                return _too_slow(self.name, run, budget)
            runs.append(run)
        best = min(runs, key=lambda r: r.objective)
        return Reconstruction(
            attack=self.name,
            clips=best.clips,
            labels=_labels(view),
            outcome=best.outcome,
            objective=best.objective,
            trace=best.trace,
            restart_objectives=tuple(r.objective for r in runs),
            steps=sum(r.steps for r in runs),
            seconds=sum(r.seconds for r in runs),
            seed=seed,
        )

    def _distance(
        self,
        view: View,
        observed: dict[str, Tensor],
        wanted: Mapping[str, BatchStatistics],
        x: Clips,
        labels: Tensor,
    ) -> Tensor:
        with SurrogateCurvature(self.tau) if self.tau > 0.0 else nullcontext():
            if not wanted:
                return self.objective(view.client(x, labels, create_graph=True), observed)
            gradients, statistics = view.client.simulate(x, labels, create_graph=True)
            off = statistics_distance(statistics, wanted)
            return self.objective(gradients, observed) + self.statistics * off

    def _statistics(self, view: View, device: torch.device) -> Mapping[str, BatchStatistics]:
        """Return the exact statistics of the batch, where buffers were sent along."""
        if not view.update.buffers or self.statistics == 0.0:
            return {}
        shape = (view.update.batch, *view.knowledge.clip_shape)
        return view.client.batch_statistics(view.update.buffers, torch.zeros(shape, device=device))

    def _penalty(self, x: Clips, view: View) -> Tensor:
        return torch.stack([prior(x, view.knowledge) for prior in self.priors]).sum() if self.priors else x.sum() * 0.0


def _labels(view: View) -> tuple[Label, ...]:
    return view.knowledge.labels or tuple(0 for _ in range(view.update.batch))


def _share(budget: Budget, restart: int, restarts: int) -> Budget:
    return replace(
        budget,
        seconds=budget.seconds / restarts,
        progress=lambda fraction: budget.progress((restart + fraction) / restarts),
    )


def _too_slow(name: str, pace: float, budget: Budget) -> Skipped:
    times = max(2, math.ceil(pace * LEAST_STEPS / max(budget.seconds, 1e-9)))
    return Skipped(
        stage="invert",
        what=name,
        because="out-of-budget",
        reason=f"one step takes {pace:.2g} s and this attack's share of the budget is {budget.seconds:.0f} s; "
        f"fewer than {LEAST_STEPS} steps would prove nothing",
        remedy=f"give --max-time at least {times} times as long",
    )
