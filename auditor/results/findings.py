"""Findings as they are written: an attack, its results over the probes, and what enhancement added to the best."""

from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Literal, TypeAlias

from auditor.results.attempts import Attempt, Diagnosis, Point
from auditor.results.declare import DataUri, Decibel, Form, Later, Measured, Name, Paragraph, Scalar, Seconds, record
from auditor.results.scores import ClipScore, FaceMatch, Grade, Interval, Retrieval
from auditor.results.severity import Rated

Word = Literal["recovered detail", "only prettier", "nothing", "worse", "not judged"]
Strip: TypeAlias = tuple[DataUri | None, ...] | None
Curve: TypeAlias = tuple[Annotated[Point, Form(row=True)], ...]


@record
class EnhancedScore:
    """Numbers of an enhanced clip against the clip before it was resized to the model's input.

    `sharpness` is the mean absolute difference of neighbouring pixels in [0, 1]; it needs no truth. `perceptual` is a
    distance of network features, lower is nearer; `rank` searches a gallery by pixels, `embedding_rank` by what a
    public network sees. None where it was not measured.
    """

    psnr: Decibel
    ssim: Measured
    rank: int
    sharpness: Measured
    perceptual: Later[Measured | None] = None
    embedding_rank: Later[int | None] = None


@record
class Added:
    """The word for what an enhancer added, and the sentence that gives its reason."""

    word: Word
    sentence: str


@record
class EnhancementBlock(EnhancedScore):
    """One method on one reconstruction and on its null.

    `gain_over_bicubic` and `null_gain` are dB over bicubic at the same scale, against the same truth.
    """

    method: Name
    scale: int
    gain_over_bicubic: Decibel
    null: EnhancedScore | None
    null_gain: Later[Decibel | None] = None
    added: Later[Added | None] = None
    seconds: Later[Seconds] = 0.0


@record
class Pictures:
    """The same frames of everything, as data URIs; `frames` are their numbers."""

    frames: tuple[int, ...]
    original: Strip
    reconstruction: Strip
    enhanced: Strip
    enhanced_method: str | None
    baseline: Strip
    baseline_name: str | None
    null: Strip
    enhanced_null: Later[Strip] = None
    reference: Later[Strip] = None


@record
class ResultBlock(Attempt):
    """One reconstruction of one probe with its score, and the same attack's null for the same truth."""

    probe: Name
    kind: str
    repetition: int
    grade: Grade
    score: ClipScore | None
    null: ClipScore | None
    enhanced: tuple[EnhancementBlock, ...]
    pictures: Pictures | None
    curve: Later[Curve] = ()


@record
class DiagnosedBlock(Diagnosis):
    """The diagnosis of an audit's best search, and which run it is about."""

    probe: Name
    seed: Scalar
    psnr: Decibel
    objective: Decibel


@record
class FacesBlock:
    """Whether a person is recognised: in the reconstruction, after enhancement, and in the null."""

    probe: Name
    threshold: float
    false_accept: float
    reconstruction: FaceMatch | None
    enhanced: FaceMatch | None
    null: FaceMatch | None
    null_enhanced: FaceMatch | None


@record
class MappedClip:
    """A feature map of one probe, held against what the true clip gives there and what another clip gives.

    Errors are relative to the norm of the true value; `residual` is the attacker's own certificate.
    """

    probe: Name
    error: Decibel | None
    null_error: Decibel | None
    residual: Decibel


@record
class FeatureMapBlock:
    """What a layer reads, recovered exactly by a recursion: an inverted feature map.

    Attributes
    ----------
    layer
        The weight that reads it.
    values, per_pixel
        How many numbers it holds, and how many for each pixel value.
    counts
        Whether it was recovered on some probe, and another clip's value lies far away: only then it has a part in the
        verdict.
    """

    attack: Name
    layer: Name
    shape: tuple[int, ...]
    values: int
    per_pixel: Measured
    counts: bool
    severity: Rated
    summary: Paragraph
    clips: tuple[MappedClip, ...]


@record
class FindingBlock:
    """What one attack demonstrated over its probes; `counts` is false where its null control did not hold.

    `family` names the kind of attack: a leak stays the same leak when another attack of its family finds it.
    """

    id: str
    rule: str
    attack: str
    configuration: str
    title: str
    source: str
    grade: Grade
    severity: Rated
    threat_model: str
    reference: str
    reference_frames: int
    assumes: tuple[str, ...]
    summary: Paragraph
    counts: bool
    null_at_chance: bool | None
    null_recall: Interval | None
    null_bits: Interval | None
    recall: Interval | None
    bits: Interval | None
    results: tuple[ResultBlock, ...]
    faces: Later[FacesBlock | None] = None
    retrieval: Later[Mapping[str, Retrieval | None]] = field(default_factory=dict)
    diagnosis: Later[DiagnosedBlock | None] = None
    family: Later[str] = ""
