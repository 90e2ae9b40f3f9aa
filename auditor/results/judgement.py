"""How a gate judged an audit: its alerts against a baseline, waivers and a policy (docs/gate.md)."""

from collections.abc import Mapping
from typing import Annotated, Literal

from auditor.results.declare import Form, Later, LongName, Name, Paragraph, Sentence, record
from auditor.results.scores import Grade
from auditor.results.severity import Rated
from auditor.terms import ConfidenceLevel, OnInconclusive

State = Literal["new", "worse", "same", "better", "fixed"]
WaiverState = Literal["used", "expired", "unused", "elsewhere"]
Day = Annotated[str, Form(cap=10)]


@record
class AlertBlock:
    """One thing that an audit shows, under a name that stays the same from audit to audit.

    Attributes
    ----------
    rule, subject, threat_model
        What the fingerprint is made of: the rule, the layer or family of attacks that it is about, and the attacker.
    layer
        The layer that it is about; empty for what is about the whole update.
    grade
        What was demonstrated; None for what is not demonstrated but exposed, and for what could not be told.
    state
        Against the baseline; None without one.
    clear
        Whether the change is beyond the spread of repeats; True without a baseline.
    reason
        What the state follows from.
    waiver
        Place in the list of waivers of the one that covers it; None for none.
    fails
        Whether the gate fails on it.
    """

    rule: str
    subject: LongName
    threat_model: str
    layer: Name
    fingerprint: str
    grade: Grade | None
    severity: Rated
    message: Paragraph
    state: State | None
    clear: bool
    reason: Sentence
    waiver: int | None
    fails: bool


@record
class PlaceBlock:
    """A line of a text file that stands for the model: `path` from the root of the repository, `end_column` after it.

    `text` tells whether it is a line that a reader can be shown; a model file has none.
    """

    path: LongName
    line: int
    end_column: int
    text: bool


@record
class WaiverBlock:
    """An exception that somebody answers for, and what became of it; `expires` is the last day that it holds.

    `elsewhere` is one for another model: it is neither used nor in the way.
    """

    rule: str
    model: LongName
    layer: LongName
    reason: Paragraph
    owner: LongName
    expires: Day
    state: WaiverState
    alerts: int


@record
class BaselineBlock:
    """The audit that this one was compared with; `sha256` is its model's."""

    audit_id: str
    version: str
    started: str
    model: Name
    sha256: str
    verdict: str


@record
class PolicyBlock:
    """What the gate was told; `levels` are severities that replace those of a rule's alerts."""

    fail_on: str
    fail_on_regression: bool
    inconclusive: OnInconclusive
    least_confidence: ConfidenceLevel
    levels: Mapping[str, str]


@record
class JudgementBlock:
    """The gate's decision, and everything that it rests on.

    `warnings` are differences that make the comparison with the baseline weaker, and waivers that need attention.
    `reasons` say why the gate failed, or that nothing failed it. `spread` says what counts as a change.
    """

    passed: bool
    exit_code: int
    reasons: tuple[str, ...]
    policy: PolicyBlock
    baseline: BaselineBlock | None
    spread: Sentence
    alerts: tuple[AlertBlock, ...]
    waivers: tuple[WaiverBlock, ...]
    warnings: tuple[Paragraph, ...]
    place: Later[PlaceBlock | None] = None
