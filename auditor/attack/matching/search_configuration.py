"""Configurations of one descent, which compete by successive halving."""

from dataclasses import dataclass, field, replace

from auditor.attack.matching.objective import Cosine, Objective, RowCosine
from auditor.attack.matching.parametrisation import Modes
from auditor.solvers.parametrisation import Parametrisation
from auditor.solvers.schedule import Schedule
from auditor.solvers.step_rule import SoftSign, StepRule


@dataclass(frozen=True, kw_only=True)
class SearchConfiguration:
    """One configuration of a descent.

    Attributes
    ----------
    tau, tau_end
        Relative width of the surrogate gradient at the start and at the end, geometric between; 0 turns it off.
    """

    name: str
    objective: Objective = field(default_factory=Cosine)
    parametrisation: Parametrisation = field(default_factory=Modes)
    schedule: Schedule = field(default_factory=lambda: Schedule(anneal=0.03))
    tau: float = 0.3
    tau_end: float = 0.3
    rule: StepRule = field(default_factory=SoftSign)

    def width(self, progress: float) -> float:
        """Return the width of the surrogate gradient at this share of the descent."""
        return self.tau * (self.tau_end / self.tau) ** progress if self.tau > 0.0 else 0.0

    def onward(self) -> "SearchConfiguration":
        """Return the configuration that goes on from where this one ended: all modes, curvature from half-way."""
        modes = replace(self.parametrisation, coarse=0) if isinstance(self.parametrisation, Modes) else None
        return replace(self, parametrisation=modes or self.parametrisation, tau=self.width(0.5))


# All configurations share one parametrisation: over pixels the same objective comes with up to 5 dB less of the clip,
# so the selection objective cannot compare the two. In each tuple the first is the best single choice: with few steps
# only it runs.
NONSMOOTH_CONFIGURATIONS = (
    SearchConfiguration(name="cosine"),
    SearchConfiguration(
        name="coarse to fine, narrowing curvature",
        parametrisation=Modes(coarse=30),
        schedule=Schedule(rate=0.2, anneal=0.03),
        tau=1.0,
        tau_end=0.1,
    ),
    SearchConfiguration(name="narrowing curvature", tau=1.0, tau_end=0.1),
    SearchConfiguration(name="row-weighted cosine", objective=RowCosine()),
)
SMOOTH_CONFIGURATIONS = (
    SearchConfiguration(name="row-weighted cosine", objective=RowCosine(), tau=0.0, tau_end=0.0),
    SearchConfiguration(
        name="row-weighted cosine, large steps",
        objective=RowCosine(),
        schedule=Schedule(rate=0.3, anneal=0.01),
        tau=0.0,
        tau_end=0.0,
    ),
    SearchConfiguration(name="cosine", tau=0.0, tau_end=0.0),
)
