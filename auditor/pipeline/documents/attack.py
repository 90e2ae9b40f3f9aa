"""What `fl-audit attack --json` prints (docs/attack.md)."""

import datetime
from typing import Any

from auditor import __version__
from auditor.options import AttackOptions
from auditor.pipeline.context import Context
from auditor.pipeline.documents.environment import environment_block
from auditor.pipeline.single_attack.named import STEPS
from auditor.pipeline.single_attack.run import Attacked
from auditor.pipeline.units import uses_reference
from auditor.results.attack import (
    ATTACK,
    AttackBlock,
    AttackDocument,
    AttackedClip,
    AttackProtocol,
    AttackTool,
    KnowledgeBlock,
    NullScore,
)
from auditor.results.attempts import Attempt
from auditor.results.declare import values_of
from auditor.results.encode import document
from auditor.results.model import AttackedModel
from auditor.score import ClipScore


def attack_document(a: Attacked) -> dict[str, Any]:
    """Return everything about one attack on one clip as plain values."""
    made = AttackDocument(
        **values_of(Attempt, a.made),
        schema=ATTACK,
        tool=tool_block(a.options, a.started, a.seconds),
        model=model_block(a.context),
        protocol=protocol_block(a.context),
        attack=_attack(a),
        clip=_clip(a),
        knowledge=KnowledgeBlock(**values_of(KnowledgeBlock, a.knowledge)),
        grade=a.grade,
        score=a.score,
        blind=a.guess_name,
        clips_psnr=a.clips_psnr,
        null=NullScore(clip=a.null_clip, **values_of(ClipScore, a.null)),
        curve=a.curve,
        diagnosis=a.diagnosis,
        environment=environment_block(a.context.device),
    )
    return document(made)


def tool_block(options: AttackOptions, started: datetime.datetime, seconds: float) -> AttackTool:
    """Return what ran an attack, and what it could spend."""
    return AttackTool(
        name="fl-audit",
        version=__version__,
        started=started.isoformat(timespec="seconds"),
        seconds=seconds,
        command=options.command,
        seed=options.seed,
        max_time=options.max_time,
        max_steps=options.steps or STEPS,
    )


def model_block(context: Context) -> AttackedModel:
    """Return which model it was."""
    target = context.target
    return AttackedModel(
        name=target.name,
        source=target.source,
        format=target.format,
        sha256=target.sha256,
        classes=target.classes,
        parameters=sum(p.numel() for p in target.parameters.values()),
        input=target.input,
        notes=target.fidelity.notes,
    )


def protocol_block(context: Context) -> AttackProtocol:
    """Return every field of the protocol; names of parameters are counted."""
    protocol = context.protocol
    counted = {"sent": len(protocol.sent), "frozen": len(protocol.frozen)}
    return AttackProtocol(**{**values_of(AttackProtocol, protocol), **counted})


def _attack(a: Attacked) -> AttackBlock:
    return AttackBlock(
        name=a.attack.name,
        title=a.attack.title,
        source=a.attack.source,
        configuration=repr(a.attack),
        closed_form=a.attack.closed_form,
        reference=a.references.source if uses_reference(a.attack) else None,
        reference_frames=0 if a.knowledge.reference is None else len(a.knowledge.reference),
        reference_notes=a.reference_notes,
    )


def _clip(a: Attacked) -> AttackedClip:
    probe = a.observed.probe
    return AttackedClip(
        name=probe.name,
        kind=probe.kind,
        sha256=probe.sha256,
        shape=tuple(probe.clip.shape),
        source=probe.source,
        licence=probe.licence,
        labels=a.observed.labels,
    )
