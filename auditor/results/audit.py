"""results.json: an audit, complete (docs/results.md)."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from auditor.results.asides import (
    ContextBlock,
    MaliciousServerBlock,
    MembershipBlock,
    MostLikeBlock,
    ReferencesBlock,
    VariantBlock,
)
from auditor.results.attempts import Skipped
from auditor.results.declare import Form, Label, Later, LongName, Measured, Name, Scalar, Share, record
from auditor.results.findings import FeatureMapBlock, FindingBlock
from auditor.results.judgement import JudgementBlock
from auditor.results.layer_attacks import LayerAttacksBlock
from auditor.results.model import Environment, LayerBlock, ModelBlock
from auditor.results.protection.privacy import PrivacyClaimBlock
from auditor.results.protection.seal import IntegrityBlock
from auditor.results.scores import Exposure, Grade, Interval
from auditor.results.severity import Rated, SeverityBlock
from auditor.results.updates.replay import ReplayAgreement

AUDIT: Literal["fl-audit/results/2"] = "fl-audit/results/2"
# The longest side of frames that are stored, in pixels: smaller clips are shown as they are.
FRAME_SIDE = 160
Tenth = Annotated[float, Form(decimals=1, unmeasured=True)]
# What the user chose, by name; each a value or a list of values.
Options = Mapping[str, Annotated[Any, Form(cell=True)] | tuple[Annotated[Any, Form(cell=True)], ...]]


@record
class ToolBlock:
    """What made the audit, when and how; `options` is the effective configuration.

    `max_time` is the limit by the clock in seconds, null where there was none; `budget` and `work` are what was planned
    and what was counted, in reference seconds, which are the same on every machine. `key` is a digest of everything
    that the results depend on, empty where a part of it is code.
    """

    name: str
    version: str
    audit_id: str
    started: str
    seconds: Tenth
    preset: str | None
    seed: Scalar
    command: tuple[LongName, ...]
    max_time: Measured | None
    options: Options
    budget: Later[Tenth | None] = None
    work: Later[Tenth | None] = None
    key: Later[str] = ""


@record
class LocalTraining:
    """Local training under FedAvg: `steps` are those behind one update."""

    local_epochs: int
    local_batch: int
    steps: int
    learning_rate: float
    momentum: float


@record
class OutputBlock:
    """What of the model's output the loss reads."""

    name: Name
    frames: int
    activation: str
    pool: str | None


@record
class UpdateBlock:
    """What a client sends: how many tensors, and the BatchNorm running statistics by name."""

    gradients: int
    buffers: tuple[Name, ...]


@record
class ThreatModelBlock:
    """What the attacker is assumed to know, and what no attack tried."""

    id: str
    title: str
    assumes: tuple[str, ...]
    out_of_scope: tuple[str, ...]


@record
class DefenceBlock:
    """What is done to an update: as the user writes it, in a clause for people, and where it acts.

    At the `client` it changes what is sent; at the `server`, after averaging, who sees an update sees it without that.
    `unknown_to` are the attacks that would apply, and have no form for it: they were left out.
    """

    name: Name
    told: str
    acts: Literal["client", "server"]
    unknown_to: tuple[Name, ...]


@record
class ProtocolBlock:
    """How clients train and what they send; `frozen` counts parameters that the model keeps from training.

    `batch` counts the clips behind one update as it is seen: of all `clients` whose average is seen.
    """

    algorithm: str
    batch: int
    loss: Name
    labels: str
    bn: str
    trainable: tuple[Name, ...]
    frozen: int
    dropout: str
    local: LocalTraining | None
    output: OutputBlock
    update: UpdateBlock
    threat_model: ThreatModelBlock
    clients: Later[int] = 1
    defences: Later[tuple[DefenceBlock, ...]] = ()


@record
class ProbeBlock:
    """A clip with a known truth: shapes are (frame, channel, height, width)."""

    name: Name
    kind: str
    sha256: str
    shape: tuple[int, ...]
    native_shape: tuple[int, ...] | None
    source: LongName
    licence: LongName | None
    label: Label


@record
class Control:
    """A case with a known outcome: what was measured against what had to be. `passed` is None when it did not run."""

    name: str
    kind: str
    passed: bool | None
    measured: Scalar
    expected: Scalar
    why: str
    attack: str | None = None


@record
class LabelsBlock:
    """How well labels were read off the updates; `reason` says why they were not.

    `proven`: the updates themselves prove every label that was read, so that no test against chance is needed.
    """

    rule: str | None
    interval: Interval | None
    grade: Grade | None
    reason: str | None
    proven: Later[bool] = False
    severity: Later[Rated | None] = None


@record
class ExposureBlock:
    """Exposure of everything that is sent, by linear analysis; `reason` says why it was not measured.

    `products` with the Jacobian and its transpose were made for the whole update; none are told where only leading
    modes were measured, as in documents of earlier versions.
    """

    all: Exposure | None
    modes: int | None
    coverage: Share | None
    sigma: Measured | None
    reason: str | None
    rank_correlation: Measured | None
    probe: Name | None
    products: Later[int | None] = None


@record
class GateBlock:
    """What a pipeline was told to stop at, and whether it may go on."""

    fail_on: str
    passed: bool | None


@record
class VerdictBlock:
    """One word, the sentence that may be quoted, and why."""

    word: Literal["FAIL", "WARN", "PASS", "INCONCLUSIVE"]
    sentence: str
    reasons: tuple[str, ...]
    gate: GateBlock
    exit_code: int


@record
class Confidence:
    """high, medium or low, and every reason that lowered it."""

    level: Literal["high", "medium", "low"]
    reasons: tuple[str, ...]


@record
class MachineCut:
    """A part that was left out because of this machine: another one, or this one less busy, may run it.

    `times` says how often; `limit` is `time` (--max-time by the clock) or `memory`.
    """

    stage: str
    what: Name
    limit: Literal["time", "memory"]
    times: int


@record
class ActionBlock:
    """What the reader can do, and the measured effect as a sentence; `evidence` is that of the catalogue, or empty."""

    text: str
    effect: str | None
    evidence: Later[LongName] = ""


@record
class ScaledDownBlock:
    """What deep attacks recovered of smaller clips with the same weights; no part of the verdict but to forbid PASS.

    `shape` is (frame, channel, height, width) of the clips; `shown` whether a recognisable one was recovered.
    """

    shape: tuple[int, ...]
    shown: bool
    findings: tuple[FindingBlock, ...]
    feature_maps: tuple[FeatureMapBlock, ...]


@record
class AuditDocument:
    """Everything that a scan found.

    `unsealed` tells that it was read from a file without a seal before it was written; `integrity` is the seal.
    """

    schema: Literal["fl-audit/results/2"]
    tool: ToolBlock
    model: ModelBlock
    protocol: ProtocolBlock
    probes: tuple[ProbeBlock, ...]
    controls: tuple[Control, ...]
    findings: tuple[FindingBlock, ...]
    labels: LabelsBlock
    exposure: ExposureBlock
    layers: tuple[LayerBlock, ...]
    what_if: tuple[VariantBlock, ...]
    skipped: tuple[Skipped, ...]
    verdict: VerdictBlock
    severity: SeverityBlock
    confidence: Confidence
    actions: tuple[ActionBlock, ...]
    environment: Environment
    membership: Later[MembershipBlock | None] = None
    references: Later[ReferencesBlock | None] = None
    malicious_server: Later[MaliciousServerBlock | None] = None
    feature_maps: Later[tuple[FeatureMapBlock, ...]] = ()
    scaled_down: Later[ScaledDownBlock | None] = None
    machine_cuts: Later[tuple[MachineCut, ...] | None] = None
    judgement: Later[JudgementBlock | None] = None
    privacy: Later[PrivacyClaimBlock | None] = None
    replay: Later[ReplayAgreement | None] = None
    layer_attacks: Later[LayerAttacksBlock | None] = None
    most_like: Later[MostLikeBlock | None] = None
    context: Later[ContextBlock | None] = None
    unsealed: Later[bool] = False
    integrity: Later[IntegrityBlock | None] = None
