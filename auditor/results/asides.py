"""What stands beside the findings: frame membership, reference frames, what-ifs, and words of the user."""

from typing import Literal

from auditor.results.attempts import Skipped
from auditor.results.declare import DataUri, Decibel, Later, LongName, Measured, Name, Paragraph, record
from auditor.results.scores import Grade, Interval
from auditor.results.severity import Rated
from auditor.terms import Annex, Language


@record
class FrameBlock:
    """One frame that was asked, and whether it is claimed to have been in the clip; None where nothing is claimed."""

    kind: Literal["member", "same camera", "other scene", "another update"]
    distance: Measured
    claim: bool | None
    picture: DataUri | None


@record
class ClipAskedBlock:
    """The frames that were asked of one clip's update."""

    probe: Name
    weight: Name
    rank: int
    rows: int
    complete: bool
    noise: Measured
    threshold: Decibel
    calibrated: bool
    calibration: Interval | None
    frames: tuple[FrameBlock, ...]


@record
class MembershipBlock:
    """What the updates tell of single frames; `reason` says why nothing is claimed, or is empty."""

    rule: str
    reason: LongName
    claims: bool
    grade: Grade
    clips: tuple[ClipAskedBlock, ...]
    null_at_chance: bool | None = None
    severity: Later[Rated | None] = None
    rate: float | None = None
    batch: int | None = None
    precision: Later[str | None] = None
    false_positives: Interval | None = None
    true_positives: Interval | None = None
    null: Interval | None = None
    clips_found: Interval | None = None


@record
class CopyBlock:
    """How near reference frames alone come to one clip: dB of the nearest copy and of the best guess without them."""

    probe: Name
    frames: int
    psnr: Decibel
    blind: Decibel


@record
class ReferencesBlock:
    """Which frames attackers held; `given` where they are the user's, and `frames` how many of these."""

    source: LongName
    given: bool
    frames: int | None
    notes: tuple[LongName, ...]
    copies: tuple[CopyBlock, ...]


@record
class VariantBlock:
    """One change of the protocol and what it did, with differences to the audited protocol.

    `not_compared` says why nothing follows from them: which of the audit's strongest attacks did not run on it.
    """

    name: str
    change: LongName
    baseline: bool
    exposure_psnr: Decibel | None
    delta_exposure: Decibel | None
    attack: str | None
    psnr: Decibel | None
    gain: Decibel | None
    grade: Grade | None
    delta_gain: Decibel | None
    steps: int | None
    skipped: Skipped | None
    not_compared: Later[LongName] = ""


@record
class Check:
    """One test of the client's check of a model, and its outcome.

    `passed` is None where the test could not be made; `why` then says the cause, else what the test is for. `where`
    names the layer or class that it is about, `measured` and `threshold` are worded for a reader.
    """

    name: str
    passed: bool | None
    measured: LongName
    threshold: str
    why: LongName
    where: LongName = ""


@record
class ManipulationBlock:
    """One manipulation, what it brought the server, and what the client's check says of the model."""

    name: str
    change: str
    attack: str
    source: str
    batch: int
    rounds: int
    steps: int
    exact: int | None
    certified: int | None
    share: Measured | None
    honest_share: Measured | None
    psnr: Decibel | None
    gain: Decibel | None
    grade: Grade | None
    null_gain: Decibel | None
    null_at_chance: bool | None
    honest_psnr: Decibel | None
    honest_gain: Decibel | None
    detected: bool | None
    answer: Paragraph
    checks: tuple[Check, ...]
    skipped: Skipped | None


@record
class ServerThreat:
    """The threat model of a malicious server."""

    id: str
    title: str


@record
class MaliciousServerBlock:
    """A what-if, never part of the verdict: `audited` is the client's check of the model as it was audited."""

    threat_model: ServerThreat
    note: str
    audited: tuple[Check, ...]
    manipulations: tuple[ManipulationBlock, ...]


@record
class ContextBlock:
    """Who answers for what was audited, as the user wrote it; empty where it was not said."""

    organisation: LongName
    system: LongName
    purpose: LongName
    owner: LongName
    reviewer: LongName
    recipient: LongName
    next_review: LongName
    language: Language
    annexes: tuple[Annex, ...]


@record
class MostLikeBlock:
    """A net with the same kinds of layers and the same kind of head, of several the nearest in parameters.

    It tells what to expect and takes no part in a verdict. `nets` counts those that have the same, `clips` are an
    update's there. `attack` and `psnr` are of the best picture there, None where no attack gave one.
    """

    net: Name
    family: LongName
    nets: int
    parameters: int
    clips: int
    attack: Name | None
    psnr: Decibel | None
    grade: Grade
    date: Name
