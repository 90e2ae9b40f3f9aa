"""result.json of an attack on a captured update: no truth, so no scores (docs/captured.md)."""

import enum
from typing import Literal

from auditor.results.attack import AttackBlock, AttackProtocol, AttackTool, KnowledgeBlock
from auditor.results.attempts import Attempt
from auditor.results.declare import Decibel, LongName, Name, Sentence, record
from auditor.results.model import AttackedModel, Environment

CAPTURED: Literal["fl-audit/captured/1"] = "fl-audit/captured/1"


@record
class MatchedTensor:
    """One tensor of the file and the tensor of the model that it stands for.

    `how` is name (the same), renamed (with a prefix more), or order (the file has no names).
    """

    name: LongName
    given: LongName
    how: Literal["name", "renamed", "order"]
    shape: tuple[int, ...]


@record
class CapturedFile:
    """A file that the update came from; `role` is the option that named it."""

    role: Literal["update", "before", "after"]
    name: Name
    sha256: str


@record
class CapturedBlock:
    """What the files hold, as the model's own tensors.

    Attributes
    ----------
    kind
        gradient, difference (after training less before) or weights (after training).
    norm
        Of the update as it is attacked.
    steps
        Local steps, where the file says how many; else None.
    """

    files: tuple[CapturedFile, ...]
    kind: Literal["gradient", "difference", "weights"]
    norm: Decibel
    steps: int | None
    matched: tuple[MatchedTensor, ...]
    missing: tuple[LongName, ...]
    unexpected: tuple[LongName, ...]
    notes: tuple[Sentence, ...]


class Proof(enum.Enum):
    """What it means that the reconstruction, trained on by a simulated client, sends this update or does not."""

    REPRODUCED = (
        "a client that trains on the reconstruction sends this very update, and one that trains on other clips does "
        "not: as far as the update determines its clip, this is it"
    )
    CLOSER = (
        "the reconstruction explains the update better than other clips do, but does not reproduce it: it may show "
        "parts of the clip"
    )
    INDISTINCT = "other clips reproduce this update too, so that a small residual proves nothing here"
    NOTHING = "the reconstruction explains the update no better than other clips: nothing was shown"


@record
class CapturedDocument(Attempt):
    """Everything about one attack on one captured update.

    Attributes
    ----------
    residual
        ||g(x) - g*|| / ||g*|| of the reconstruction x: 0 is a perfect reproduction.
    unrelated
        The same of public clips that have nothing to do with it.
    not_claimed
        What the result does not say.
    """

    schema: Literal["fl-audit/captured/1"]
    tool: AttackTool
    model: AttackedModel
    protocol: AttackProtocol
    attack: AttackBlock
    update: CapturedBlock
    knowledge: KnowledgeBlock
    residual: Decibel
    unrelated: tuple[Decibel, ...]
    proof: Proof
    not_claimed: tuple[Sentence, ...]
    environment: Environment
