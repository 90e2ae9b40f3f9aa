"""What an attack's run says of itself, and why it ended where it did."""

import enum
from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Literal, TypeAlias

from auditor.results.declare import Decibel, Form, Label, Later, LongName, Name, Seconds, Sentence, Share, record

Milliseconds: TypeAlias = Annotated[float, Form(decimals=3, unmeasured=True)]


class Outcome(enum.Enum):
    """How an attack ended; the text says what that means for the reader."""

    SOLVED = "solved in closed form, and the solution reproduces the update"
    UNVERIFIED = "solved in closed form, but the solution does not reproduce the update: treated as a failure"
    CONVERGED = "the objective reached a plateau"
    OUT_OF_BUDGET = "the budget ended while the objective was still falling: more time may recover more"
    DIVERGED = "the objective became infinite or not a number"


class Conclusion(enum.Enum):
    """What a reconstruction that falls short means; the text says it to the reader."""

    RECOVERED = "the clip was recovered: there is nothing to explain"
    MISMATCH = "the client, simulated on the true clip, does not send this update: the attack searched for another clip"
    WRONG_LABELS = "the labels that the attack worked with are not the clips': it could not match the update"
    OUT_OF_BUDGET = "out of budget: the objective was still falling, and more time may recover more"
    OPTIMISER_FAILED = (
        "the optimiser failed: near the true clip the attacker's own objective is lower, and a descent stays there, so "
        "a better search would recover more"
    )
    INFORMATION_MISSING = (
        "information is missing: under the attacker's own objective other clips explain the update as well as the true "
        "one"
    )
    UNDECIDED = "undecided: neither the truth-started run nor the exposure tells why the attack fell short"


@record
class Trace:
    """One point of an attack's course: steps taken, seconds used, and the attacker's own objective."""

    step: int
    seconds: Milliseconds
    objective: Decibel


@record
class Point:
    """The best clip so far, scored: dB, after so many steps and seconds, at this objective of the attacker."""

    step: int
    seconds: Milliseconds
    objective: Decibel
    psnr: Decibel


@record
class RecoveredInput:
    """How far a recursion came with what layers read: one value, and the equations that their weights' gradients give.

    Attributes
    ----------
    weights
        Of the layers that read it, whose equations stack.
    how
        exact (as many independent equations as unknowns), completed (what equations leave open follows from signs), or
        sought (searched for together with the clip).
    equations, unknowns
        For each input channel.
    share
        Of the unknowns that equations alone determine, in [0, 1].
    residual
        What of the gradients no value explains, relative to their norm: the certificate, which needs no truth.
    """

    weights: tuple[Name, ...]
    how: Literal["exact", "completed", "sought"]
    equations: int
    unknowns: int
    share: Share
    residual: Decibel


@record
class Attempt:
    """How a run of an attack ended and what it cost.

    Attributes
    ----------
    labels
        The labels the attack worked with.
    certificate
        Named numbers that the attacker can check without the truth, e.g. the relative residual of the update
        re-simulated from `clips`; empty for attacks that have none.
    trace
        The course of the chosen restart.
    restart_objectives
        Final objective of every restart, in order.
    depth
        What a recursion recovered between the layers, from the head down; empty for attacks that do not descend.
    """

    outcome: Outcome
    objective: Decibel
    labels: tuple[Label, ...]
    certificate: Mapping[str, Decibel] = field(default_factory=dict)
    trace: tuple[Annotated[Trace, Form(row=True)], ...] = ()
    restart_objectives: tuple[Decibel, ...] = ()
    steps: int = 0
    seconds: Seconds = 0.0
    seed: int = 0
    notes: tuple[LongName, ...] = ()
    depth: Later[tuple[RecoveredInput, ...]] = ()


@record
class TruthStarted:
    """A descent that began at the truth: the auditor's diagnosis, never an attack.

    `psnr` and `objective` are the last iterate's; `course` has dB by step.
    """

    psnr: Decibel
    objective: Decibel
    steps: int
    seconds: Seconds
    course: tuple[tuple[int, Decibel], ...]


@record
class Diagnosis:
    """Why a reconstruction ended where it did.

    Attributes
    ----------
    update_at_truth
        Relative difference between the update and the client's simulation on the true clips.
    objective_at_truth
        The attacker's own objective there; None where it depends on more than the clips.
    because
        Why no run started at the truth, if none did.
    """

    conclusion: Conclusion
    update_at_truth: Decibel
    objective_at_truth: Later[Decibel | None] = None
    labels_right: bool
    truth_started: TruthStarted | None
    exposure: Decibel | None
    because: LongName = ""


@record
class Skipped:
    """Something that did not run, and why: a value, counted and shown, never silence.

    `because` is not-applicable, out-of-budget, out-of-memory, unsupported or failed.
    """

    stage: str
    what: Name
    because: Literal["not-applicable", "out-of-budget", "out-of-memory", "unsupported", "failed"]
    reason: Sentence
    remedy: Sentence = ""
