"""Gradient matching for clips, composed from parts."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from auditor.attack.as_sent import as_sent
from auditor.attack.base import Attack
from auditor.attack.cost import LEAST_STEPS
from auditor.attack.matching.batch_statistics import statistics_distance
from auditor.attack.matching.gradient_regularisation import GradientRegularised
from auditor.attack.matching.objective import Cosine, Objective
from auditor.attack.matching.prior import Prior, SpatialVariation, TemporalVariation
from auditor.attack.matching.search_configuration import (
    NONSMOOTH_CONFIGURATIONS,
    SMOOTH_CONFIGURATIONS,
    SearchConfiguration,
)
from auditor.attack.matching.surrogate_gradient import NonsmoothFunctions, SurrogateGradient
from auditor.attack.start import Grey, ReferenceFrame, Start
from auditor.records import BatchStatistics, Budget, Clips, Clock, Defence, Label, Reconstruction, Skipped, View
from auditor.solvers.descent import Objective as LoopObjective
from auditor.solvers.parametrisation import Parametrisation, Pixels
from auditor.solvers.schedule import Schedule
from auditor.solvers.step_rule import SoftSign, StepRule
from auditor.solvers.successive_halving import HalvingResult, run_halving

# All configurations are compared by the same distance, whatever they descend: it was lowest where the clip was best
# for the objectives compared here (smooth nets: the row-weighted one, others: the plain one).
SELECTION_OBJECTIVE = Cosine()


@dataclass(frozen=True, kw_only=True)
class GradientMatching(Attack):
    """min over x in [0, 1] of objective(g(x, y), g*) + priors(x), from several starts.

    Attributes
    ----------
    configurations
        Configurations that compete (successive halving); none means the one that the other fields make.
    smooth_configurations
        Those that compete instead where the net has no ReLU, max pooling or other kink.
    tau
        Relative width of the surrogate gradient of ReLU; 0 turns it off.
    statistics
        Weight of the batch statistics that BatchNorm buffers give away, where a client sends them.
    rule
        How to move.
    regularised
        Descend the objective at two points at once (a flat minimum); none unless given.
    selection_objective
        What the best iterate is kept by, and restarts are compared by, whatever is descended.
    fewest_steps
        Of a descent that is begun; 0 for what proves something by itself (`LEAST_STEPS`).
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
    rule: StepRule = field(default_factory=SoftSign)
    regularised: GradientRegularised | None = None
    selection_objective: Objective = SELECTION_OBJECTIVE
    restarts: int = 1
    fewest_steps: int = 0
    parametrisation: Parametrisation = field(default_factory=Pixels)
    configurations: tuple[SearchConfiguration, ...] = ()
    smooth_configurations: tuple[SearchConfiguration, ...] = ()

    @property
    def frames_of_scene(self) -> int:
        """How many reference frames its start holds or interpolates."""
        return self.start.count if isinstance(self.start, ReferenceFrame) else 0

    def steps_at_most(self, each: int) -> int:
        """Count those of all restarts."""
        return self.restarts * each

    def meets(self, defence: Defence) -> bool:
        """Compare updates as they are sent, whatever the defence."""
        return True

    def obstacle(self, view: View) -> str | None:
        """Need a gradient that is not zero, and a reference frame for R1."""
        if self.frames_of_scene and view.knowledge.reference is None:
            return "this attacker has no reference frame"
        if all(float(g.abs().max()) == 0.0 for g in view.update.gradients.values()):
            return "the update is zero"
        return None

    def invert(self, view: View, budget: Budget, seed: int) -> Reconstruction | Skipped:
        """Search from every start, each with successive halving of configurations, and keep the lowest objective."""
        device = next(iter(view.update.gradients.values())).device
        target = view.client.targets(labels_of(view))
        observed = dict(view.update.gradients)
        wanted = self._statistics(view, device)
        configurations = self.configurations
        if configurations and self.smooth_configurations and smooth(view):
            configurations = self.smooth_configurations

        def objective(configuration: SearchConfiguration) -> LoopObjective:
            def distance(x: Clips, progress: float) -> tuple[Tensor, Tensor]:
                gradients, off = self._simulated(view, wanted, x, target, configuration.width(progress))
                matched = configuration.objective(gradients, observed)
                with torch.no_grad():
                    same = configuration.objective == self.selection_objective
                    score = matched if same else self.selection_objective(gradients, observed)
                return matched + off, (score + off).detach()

            return self.regularised(distance) if self.regularised else distance

        return self.search(objective, configurations or (self.own_configuration,), view, budget, seed)

    def measure(self, view: View, clips: Clips, labels: tuple[Label, ...]) -> float:
        """Return the distance that the best iterate is kept by, with the batch statistics where buffers were sent."""
        wanted = self._statistics(view, clips.device)
        gradients, off = self._simulated(view, wanted, clips, view.client.targets(labels), 0.0)
        return float((self.selection_objective(gradients, dict(view.update.gradients)) + off).detach())

    def search(
        self,
        objective: Callable[[SearchConfiguration], LoopObjective],
        configurations: Sequence[SearchConfiguration],
        view: View,
        budget: Budget,
        seed: int,
    ) -> Reconstruction | Skipped:
        """Minimise any objective of the clips with this attack's priors and starts, by the best configuration."""
        device = next(iter(view.update.gradients.values())).device
        played: list[HalvingResult] = []
        fewest = self.fewest_steps or LEAST_STEPS
        clock = Clock(budget.seconds)
        for restart in range(self.restarts):
            start = self.start(view.knowledge, torch.Generator().manual_seed(seed * 1000 + restart)).to(device)
            share = _share(budget, clock.left, restart, self.restarts)
            made = run_halving(objective, lambda x: self._penalty(x, view), configurations, start, share, fewest)
            if isinstance(made, float) and not played and self.restarts > 1:
                # One descent with all the time rather than several with too little each.
                everything = _share(budget, clock.left, 0, 1)
                made = run_halving(
                    objective, lambda x: self._penalty(x, view), configurations, start, everything, fewest
                )
            if isinstance(made, float):
                if played:
                    break
                return _too_slow(self.name, made, budget, fewest)
            played.append(made)
        best = min(played, key=lambda p: p.run.objective)
        return Reconstruction(
            attack=self.name,
            clips=best.run.clips,
            labels=labels_of(view),
            outcome=best.run.outcome,
            objective=best.run.objective,
            trace=best.run.trace,
            restart_objectives=tuple(p.run.objective for p in played),
            steps=sum(p.steps for p in played),
            seconds=sum(p.seconds for p in played),
            seed=seed,
            notes=best.notes,
            checkpoints=best.run.checkpoints,
        )

    @property
    def own_configuration(self) -> SearchConfiguration:
        """This attack's configuration as a configuration to search."""
        return SearchConfiguration(
            name="own",
            objective=self.objective,
            parametrisation=self.parametrisation,
            schedule=self.schedule,
            tau=self.tau,
            tau_end=self.tau,
            rule=self.rule,
        )

    def _simulated(
        self,
        view: View,
        wanted: Mapping[str, BatchStatistics],
        x: Clips,
        labels: Tensor,
        tau: float,
    ) -> tuple[Mapping[str, Tensor], Tensor | float]:
        """Return the update at x as it would be sent, and the weighted distance of the batch statistics."""
        gradients, off = self._computed(view, wanted, x, labels, tau)
        return as_sent(view.knowledge.defences, gradients, view.update.gradients), off

    def _computed(
        self,
        view: View,
        wanted: Mapping[str, BatchStatistics],
        x: Clips,
        labels: Tensor,
        tau: float,
    ) -> tuple[Mapping[str, Tensor], Tensor | float]:
        """Return the gradient at x, and the weighted distance of the batch statistics where buffers were sent."""
        with SurrogateGradient(tau) if tau > 0.0 else nullcontext():
            if not wanted:
                return view.client(x, labels, create_graph=True), 0.0
            gradients, statistics = view.client.simulate(x, labels, create_graph=True)
            return gradients, self.statistics * statistics_distance(statistics, wanted)

    def _statistics(self, view: View, device: torch.device) -> Mapping[str, BatchStatistics]:
        """Return the exact statistics of the batch, where buffers were sent along."""
        if not view.update.buffers or self.statistics == 0.0:
            return {}
        shape = (view.update.batch, *view.knowledge.clip_shape)
        return view.client.batch_statistics(view.update.buffers, torch.zeros(shape, device=device))

    def _penalty(self, x: Clips, view: View) -> Tensor:
        return torch.stack([prior(x, view.knowledge) for prior in self.priors]).sum() if self.priors else x.sum() * 0.0


def smooth(view: View) -> bool:
    """Tell whether the public net has no function whose slope jumps; the update is not looked at."""
    device = next(iter(view.update.gradients.values())).device
    grey = torch.full((view.update.batch, *view.knowledge.clip_shape), 0.5, device=device)
    with NonsmoothFunctions() as nonsmooth:
        view.client(grey, view.client.targets(labels_of(view)))
    return not nonsmooth.seen


def labels_of(view: View) -> tuple[Label, ...]:
    """Return the labels that an attack works with: those known, else zeros."""
    return view.knowledge.labels or tuple(0 for _ in range(view.update.batch))


def _share(budget: Budget, left: float, restart: int, restarts: int) -> Budget:
    return replace(
        budget,
        seconds=left / (restarts - restart),
        progress=lambda fraction: budget.progress((restart + fraction) / restarts),
    )


def _too_slow(name: str, pace: float, budget: Budget, fewest: int) -> Skipped:
    if budget.steps < fewest:
        return Skipped(
            stage="invert",
            what=name,
            because="out-of-budget",
            reason=f"{budget.steps} steps at most were allowed; fewer than {fewest} would prove nothing",
            remedy=f"allow {fewest} steps or more",
        )
    times = max(2, math.ceil(pace * fewest / max(budget.seconds, 1e-9)))
    return Skipped(
        stage="invert",
        what=name,
        because="out-of-budget",
        reason=f"one step takes {pace:.2g} s and this attack's share of the budget is {budget.seconds:.0f} s; "
        f"fewer than {fewest} steps would prove nothing",
        remedy=f"give --max-time at least {times} times as long",
    )


# In standard and deep: measured ahead of the plain recipe where the head is flattened and on smooth nets, behind it on
# pooled ReLU nets (benchmarks/README.md).
MODE_MATCHING = GradientMatching(
    name="gradient-matching-modes",
    title="Gradient matching over space-time modes, with successive halving",
    source="Geiping et al. 2020 (arXiv 2003.14053); successive halving (Jamieson & Talwalkar 2016, arXiv 1502.07943)",
    priors=(TemporalVariation(0.1), SpatialVariation(0.01)),
    configurations=NONSMOOTH_CONFIGURATIONS,
    smooth_configurations=SMOOTH_CONFIGURATIONS,
)
