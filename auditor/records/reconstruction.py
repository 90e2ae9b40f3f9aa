"""What an attack may look at, and what it makes of it."""

import enum
from collections.abc import Mapping
from dataclasses import field
from typing import Literal

from auditor.records.forms import (
    Clips,
    Label,
    record,
)
from auditor.records.target import Target
from auditor.records.update import Client, FederatedProtocol, Knowledge, Update


@record
class View:
    """All that an attack may look at. The probe is not in it: the attacker is blind by type."""

    target: Target
    client: Client
    update: Update
    knowledge: Knowledge

    @property
    def one_gradient(self) -> bool:
        """Whether the update is known to be one gradient at the public weights, up to its size."""
        if self.update.algorithm == "FedSGD":
            return True
        k = self.knowledge
        known = k.local_epochs is not None and k.local_batch is not None
        return known and self._training().steps == 1

    @property
    def scale(self) -> float | None:
        """The size of the update in mean gradients (see `FederatedProtocol.scale`); None where it is not known."""
        if self.update.algorithm == "FedSGD":
            return 1.0
        k = self.knowledge
        if k.local_epochs is None or k.local_batch is None or k.learning_rate is None or k.momentum is None:
            return None
        return self._training().scale or None

    def _training(self) -> FederatedProtocol:
        k = self.knowledge
        return FederatedProtocol(
            algorithm="FedAvg",
            batch=self.update.batch,
            local_epochs=k.local_epochs or 1,
            local_batch=k.local_batch or 0,
            learning_rate=k.learning_rate or 0.0,
            momentum=k.momentum or 0.0,
        )


class Outcome(enum.Enum):
    """How an attack ended; the text says what that means for the reader."""

    SOLVED = "solved in closed form, and the solution reproduces the update"
    UNVERIFIED = "solved in closed form, but the solution does not reproduce the update: treated as a failure"
    CONVERGED = "the objective reached a plateau"
    OUT_OF_BUDGET = "the budget ended while the objective was still falling: more time may recover more"
    DIVERGED = "the objective became infinite or not a number"


@record
class Trace:
    """One point of an attack's course: steps taken, seconds used, and the attacker's own objective."""

    step: int
    seconds: float
    objective: float


@record
class Checkpoint:
    """A search after so many steps; clips are on the CPU, in half precision.

    `clips` are the best so far and `objective` is theirs, by the attacker's own measure; `current` is the iterate.
    """

    step: int
    seconds: float
    objective: float
    clips: Clips
    current: Clips


@record
class Reconstruction:
    """What an attack made of an update.

    Attributes
    ----------
    clips
        In [0, 1]; the best iterate by the attacker's own objective.
    labels
        The labels the attack worked with.
    certificate
        Named numbers that the attacker can check without the truth, e.g. the relative residual of the update
        re-simulated from `clips`; empty for attacks that have none.
    trace
        The course of the chosen restart.
    restart_objectives
        Final objective of every restart, in order.
    checkpoints
        The chosen restart on its way, as far as the budget asked for it.
    """

    attack: str
    clips: Clips
    labels: tuple[Label, ...]
    outcome: Outcome
    objective: float
    certificate: Mapping[str, float] = field(default_factory=dict)
    trace: tuple[Trace, ...] = ()
    restart_objectives: tuple[float, ...] = ()
    steps: int = 0
    seconds: float = 0.0
    seed: int = 0
    notes: tuple[str, ...] = ()
    checkpoints: tuple[Checkpoint, ...] = ()


@record
class LabelGuess:
    """Labels that a restoration rule read off an update, one per clip, most certain first."""

    rule: str
    labels: tuple[Label, ...]
    certain: bool


@record
class Skipped:
    """Something that did not run, and why: a value, counted and shown, never silence.

    `because` is not-applicable, out-of-budget, unsupported or failed.
    """

    stage: str
    what: str
    because: Literal["not-applicable", "out-of-budget", "unsupported", "failed"]
    reason: str
    remedy: str = ""
