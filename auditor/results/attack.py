"""result.json of `fl-audit attack`: one attack on one clip (docs/attack.md)."""

from typing import Literal

from auditor.results.attempts import Attempt, Diagnosis
from auditor.results.declare import Decibel, Label, LongName, Name, Seconds, record
from auditor.results.findings import Curve
from auditor.results.model import AttackedModel, Environment
from auditor.results.scores import ClipScore, Grade

ATTACK_1 = "fl-audit/attack/1"
ATTACK: Literal["fl-audit/attack/2"] = "fl-audit/attack/2"


@record
class AttackTool:
    """What ran the attack, and what it could spend: `max_time` in seconds."""

    name: str
    version: str
    started: str
    seconds: Seconds
    command: tuple[LongName, ...]
    seed: int
    max_time: float
    max_steps: int


@record
class AttackProtocol:
    """How the client trains; `sent` and `frozen` count parameters."""

    algorithm: str
    batch: int
    loss: Name
    labels: str
    bn: str
    trainable: tuple[Name, ...]
    sent: int
    frozen: int
    dropout: str
    send_buffers: bool
    local_epochs: int
    local_batch: int
    learning_rate: float
    momentum: float
    defence: tuple[Name, ...]


@record
class AttackBlock:
    """The attack, its configuration, and the frames of the scene that it held."""

    name: str
    title: str
    source: str
    configuration: str
    closed_form: bool
    reference: LongName | None
    reference_frames: int
    reference_notes: tuple[LongName, ...]


@record
class AttackedClip:
    """The clip: its shape is (frame, channel, height, width); `labels` are those of the whole batch."""

    name: Name
    kind: str
    sha256: str
    shape: tuple[int, ...]
    source: LongName
    licence: LongName
    labels: tuple[Label, ...]


@record
class KnowledgeBlock:
    """What the attacker knew besides the update; `labels` None where it did not know them."""

    threat_model: str
    labels: tuple[Label, ...] | None
    labels_from: str


@record
class NullScore(ClipScore):
    """The same reconstruction scored against another clip: what any picture scores."""

    clip: Name


@record
class AttackDocument(Attempt):
    """Everything about one attack on one clip; `blind` names the best blind guess, `clips_psnr` is of every clip."""

    schema: Literal["fl-audit/attack/2"]
    tool: AttackTool
    model: AttackedModel
    protocol: AttackProtocol
    attack: AttackBlock
    clip: AttackedClip
    knowledge: KnowledgeBlock
    grade: Grade
    score: ClipScore
    blind: str
    clips_psnr: tuple[Decibel, ...]
    null: NullScore
    curve: Curve
    diagnosis: Diagnosis | None
    environment: Environment
