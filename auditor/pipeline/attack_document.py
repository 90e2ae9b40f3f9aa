"""What `fl-audit attack --json` prints (docs/attack.md)."""

from typing import Any

from auditor import __version__
from auditor.pipeline.blocks import curve_block, diagnosis_block, number, plain, reconstruction_block, score_block
from auditor.pipeline.environment import environment_block
from auditor.pipeline.single_attack.options import STEPS
from auditor.pipeline.single_attack.run import Attacked
from auditor.pipeline.units import uses_reference
from auditor.text import printable

SCHEMA = "fl-audit/attack/1"


def attack_document(a: Attacked) -> dict[str, Any]:
    """Return everything about one attack on one clip as plain values."""
    return {
        "schema": SCHEMA,
        "tool": {
            "name": "fl-audit",
            "version": __version__,
            "started": a.started.isoformat(timespec="seconds"),
            "seconds": round(a.seconds, 2),
            "command": [printable(c, 300) for c in a.options.command],
            "seed": a.options.seed,
            "max_time": a.options.max_time,
            "max_steps": a.options.steps or STEPS,
        },
        "model": _model(a),
        "protocol": _protocol(a),
        "attack": {
            "name": a.attack.name,
            "title": a.attack.title,
            "source": a.attack.source,
            "configuration": repr(a.attack),
            "closed_form": a.attack.closed_form,
            "reference": _reference(a),
            "reference_frames": 0 if a.knowledge.reference is None else len(a.knowledge.reference),
            "reference_notes": [printable(note, 300) for note in a.reference_notes],
        },
        "clip": _clip(a),
        "knowledge": {
            "threat_model": a.knowledge.threat_model,
            "labels": None if a.knowledge.labels is None else [plain(label) for label in a.knowledge.labels],
            "labels_from": a.knowledge.labels_from,
        },
        **reconstruction_block(a.made),
        "grade": a.grade.name,
        "score": score_block(a.score),
        "blind": a.guess_name,
        "clips_psnr": [number(v) for v in a.clips_psnr],
        "null": {"clip": a.null_clip, **score_block(a.null)},
        "curve": curve_block(a.curve),
        "diagnosis": None if a.diagnosis is None else diagnosis_block(a.diagnosis),
        "environment": environment_block(a.context.device),
    }


def _model(a: Attacked) -> dict[str, Any]:
    target = a.context.target
    spec = target.input
    return {
        "name": printable(target.name),
        "source": printable(target.source, 300),
        "format": target.format,
        "sha256": target.sha256,
        "classes": target.classes,
        "parameters": sum(p.numel() for p in target.parameters.values()),
        "input": {name: plain(getattr(spec, name)) for name in spec.__slots__},  # type: ignore[attr-defined]
        "notes": [printable(note, 600) for note in target.fidelity.notes],
    }


def _protocol(a: Attacked) -> dict[str, Any]:
    """Every field of the protocol; names of parameters are counted."""
    protocol = a.context.protocol
    found = {name: plain(getattr(protocol, name)) for name in protocol.__slots__}  # type: ignore[attr-defined]
    found |= {"sent": len(protocol.sent), "frozen": len(protocol.frozen), "loss": printable(protocol.loss)}
    found["trainable"] = [printable(glob) for glob in protocol.trainable]
    return found


def _reference(a: Attacked) -> str | None:
    if not uses_reference(a.attack):
        return None
    return printable(a.references.source, 300)


def _clip(a: Attacked) -> dict[str, Any]:
    probe = a.observed.probe
    return {
        "name": printable(probe.name),
        "kind": probe.kind,
        "sha256": probe.sha256,
        "shape": list(probe.clip.shape),
        "source": printable(probe.source, 300),
        "licence": printable(probe.licence, 300),
        "labels": [plain(label) for label in a.observed.labels],
    }
