"""study.json: the conditions of a study, its claims, and every run (docs/study.md)."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from auditor.results.declare import DataUri, Decibel, Form, Later, LongName, Measured, Name, Sentence, record
from auditor.results.scores import Interval

STUDY: Literal["fl-audit/study/1"] = "fl-audit/study/1"
Tenth = Annotated[float, Form(decimals=1)]
Title = Annotated[str, Form(cap=200)]
Text = Annotated[str, Form(cap=1000)]
LongText = Annotated[str, Form(cap=2000)]


@record
class StudyScore:
    """The numbers of one clip that a study compares; dB but for SSIM, ranks and bits.

    `copy` is the reference copy by itself and `motion_over_copy` the motion residual over its own; None without one.
    `bits` is log2(gallery / rank).
    """

    psnr: Decibel
    blind: Decibel
    gain: Decibel
    copy: Decibel | None
    ssim: Measured
    motion: Decibel
    motion_gain: Decibel
    motion_over_copy: Decibel | None
    rank: int
    gallery: int
    rank_same_scene: int | None = None
    same_scene: int = 0
    bits: Measured


@record
class StudyEnhanced:
    """One enhancement of a reconstruction beside bicubic at the same scale, against the native frames; dB."""

    method: str
    psnr: Decibel
    bicubic: Decibel
    over_bicubic: Decibel
    rank: int


@record
class StudyFeatures:
    """What was recovered of the features that enter the head, and where it points."""

    recovered: str
    said: str
    error: Measured | None
    rank: int | None
    gallery: int


@record
class StudyRun:
    """One unit, without what depends on the clock; what the journal keeps is plain already."""

    model: Name
    kind: Name
    weights: Name
    references: int
    clip: Name
    seed: int
    role: Literal["own", "null"]
    attack: str | None
    outcome: str | None
    objective: Decibel | None
    steps: int
    tried: tuple[LongName, ...]
    score: Annotated[Mapping[str, Any], Form(written_as=StudyScore)] | None
    enhanced: tuple[Annotated[Mapping[str, Any], Form(written_as=StudyEnhanced)], ...]
    features: Later[Annotated[Mapping[str, Any], Form(written_as=StudyFeatures)] | None] = None
    notes: Later[tuple[LongName, ...]] = ()


@record
class StudyTool:
    """What made the study."""

    name: str
    version: str
    preset: str
    command: tuple[LongName, ...]


@record
class StudyBlock:
    """The study's file: what it asks, on which clips and seeds, with how many steps an attack."""

    title: Title
    source: Title
    question: LongText
    file: Name
    sha256: str
    clips: tuple[Name, ...]
    seeds: tuple[int, ...]
    steps: int


@record
class StudyModelBlock:
    """A model of the study, and how well it had learned its task where it was trained."""

    name: Name
    kind: Name
    source: LongName
    weights: tuple[Name, ...]
    training_accuracy: Measured | None


@record
class StudyAttackBlock:
    """An attack of the study."""

    name: str
    title: str
    source: str
    configuration: str


@record
class MeasureBlock:
    """A number that claims can be about."""

    name: str
    unit: str
    meaning: str


@record
class EffectInterval:
    """A mean over scenes with its 95% interval; None below the least number of scenes."""

    mean: Decibel
    low: Decibel | None
    high: Decibel | None


@record
class EffectBlock(EffectInterval):
    """The effect that a claim is about, clip by clip, and how many runs, seeds and scenes stand behind it.

    `scenes` is 0 in documents of versions that took clips for the trials.
    """

    clips: Mapping[Name, Decibel]
    runs: int
    seeds: int
    scenes: Later[int] = 0


@record
class CellNull:
    """The same attack on another clip's update, over a cell."""

    runs: int
    psnr: Decibel | None
    gain: Decibel | None
    recall: Interval | None
    enhanced: Decibel | None
    enhanced_recall: Interval | None


@record
class CellFeatures:
    """What heads gave away of their input, over a cell."""

    recovered: tuple[str, ...]
    largest_error: Measured | None
    recall: Interval | None
    null_recall: Interval | None


@record
class CellBlock:
    """One condition: `measures` by name, None where nothing was measured."""

    model: Name
    kind: Name
    weights: Name
    references: int
    attacks: tuple[str, ...]
    runs: int
    clips: int
    not_attacked: tuple[LongName, ...]
    measures: Mapping[str, EffectInterval | None]
    recall: Interval | None
    enhanced_recall: Interval | None
    null: CellNull
    features: CellFeatures | None


@record
class ClaimBlock:
    """A claim and what the runs say of it; `margin` is what an effect must exceed."""

    name: Name
    text: Sentence
    note: Text
    measure: str
    unit: str
    meaning: str
    paired: bool
    margin: float
    decision: Literal["supported", "contradicted", "undecided"]
    effect: EffectBlock | None


@record
class StudyPictures:
    """The middle frame of a cell's first clip and seed, as data URIs."""

    model: Name
    weights: Name
    references: int
    clip: Name
    original: DataUri | None
    copy: DataUri | None
    reconstruction: DataUri | None
    enhanced: DataUri | None
    null: DataUri | None
    enhanced_null: DataUri | None


@record
class FailureBlock:
    """A unit that failed."""

    what: Title
    reason: Sentence


@record
class MissingBlock:
    """How many units are not done, of all, and why."""

    left_out: int
    failures: tuple[FailureBlock, ...]
    units: int
    of: int


@record
class StudyTimes:
    """Everything that depends on the clock; seconds."""

    started: str
    this_run: Tenth
    resumed: int
    cpu_seconds: Tenth


@record
class StudyDocument:
    """A study and what came of it."""

    schema: Literal["fl-audit/study/1"]
    tool: StudyTool
    study: StudyBlock
    models: tuple[StudyModelBlock, ...]
    attacks: tuple[StudyAttackBlock, ...]
    measures: tuple[MeasureBlock, ...]
    cells: tuple[CellBlock, ...]
    claims: tuple[ClaimBlock, ...]
    pictures: tuple[StudyPictures, ...]
    runs: tuple[StudyRun, ...]
    missing: MissingBlock
    times: StudyTimes
