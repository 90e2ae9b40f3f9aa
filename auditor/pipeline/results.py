"""Assemble results.json (docs/results.md) from what was gathered."""

import datetime
import hashlib
from collections.abc import Mapping
from typing import Any

import torch

from auditor import __version__
from auditor.attack import Preset
from auditor.exposure import Exposed, closed_form_flags
from auditor.options import ScanOptions
from auditor.pipeline.audit import Audit
from auditor.pipeline.blocks import (
    control_block,
    exposure_block,
    fidelity_block,
    finding_block,
    interval_block,
    part_block,
    plain,
    references_block,
    severity_block,
    skipped_block,
    what_if_block,
)
from auditor.pipeline.context import Context, Observed
from auditor.pipeline.controls import Control
from auditor.pipeline.diagnosis import Diagnosed
from auditor.pipeline.enhancement import Enhancement
from auditor.pipeline.environment import environment_block
from auditor.pipeline.findings import Finding, LabelFinding
from auditor.pipeline.identity import Identity
from auditor.pipeline.malicious import MaliciousServer
from auditor.pipeline.malicious_block import malicious_block
from auditor.pipeline.membership import Membership
from auditor.pipeline.membership_block import membership_block
from auditor.pipeline.references import Copied, References
from auditor.pipeline.what_if import Variant
from auditor.pipeline.wording import THREAT_TITLE, actions, assumptions, local_batch, out_of_scope
from auditor.records import Clock, FederatedProtocol, Layer, Outcome, Probe, Skipped, record
from auditor.score import Grade, Severity, Verdict, confidence, decide, gate, severity
from auditor.text import distinct, printable


@record
class Gathered:
    """Everything a scan measured."""

    options: ScanOptions
    preset: Preset
    started: datetime.datetime
    clock: Clock
    context: Context
    observed: tuple[Observed, ...]
    controls: tuple[Control, ...]
    failed: tuple[str, ...]
    untested: tuple[str, ...]
    exposed: Exposed | None
    findings: tuple[Finding, ...]
    diagnosed: Diagnosed | None
    labels: LabelFinding | None
    enhanced: Mapping[int, tuple[Enhancement, ...]]
    identities: Mapping[str, Identity]
    variants: tuple[Variant, ...]
    malicious: MaliciousServer | None
    membership: Membership | Skipped
    references: References
    copied: tuple[Copied, ...]
    skipped: tuple[Skipped, ...]
    device: torch.device
    pace: float


def assemble(g: Gathered) -> Audit:
    """Decide the verdict and write everything down."""
    target = g.context.target
    worst = _worst(g)
    cut_short = _cut_short(g)
    verdict = _verdict(g, cut_short)
    satisfied, code = gate(verdict.word, worst.score, worst.band, g.options.fail_on)
    sure = confidence(
        target.fidelity,
        failed_controls=g.failed + _failed_nulls(g),
        probes=len({r.observed.probe.name for f in g.findings for r in f.results if r.score.bits is None}),
        seeds=1 + max((r.repetition for f in g.findings for r in f.results), default=0),
        out_of_budget=cut_short,
        exact=any(f.counts and f.grade is Grade.EXACT for f in g.findings),
    )
    return Audit(
        results={
            "schema": "fl-audit/results/1",
            "tool": _tool(g),
            "model": _model(g),
            "protocol": _protocol(g),
            "probes": [_probe(o) for o in g.observed],
            "controls": [control_block(c) for c in g.controls],
            "findings": [
                finding_block(f, i, g.enhanced, g.diagnosed, g.identities.get(f.attack.name))
                for i, f in enumerate(g.findings, start=1)
            ],
            "labels": _labels(g),
            "exposure": _exposure_block(g),
            "layers": _layers(g),
            "what_if": what_if_block(g.variants),
            "membership": membership_block(g.membership),
            "references": references_block(g.references, g.copied, any(f.reference for f in g.findings)),
            "malicious_server": malicious_block(g.malicious),
            "skipped": [skipped_block(s) for s in g.skipped],
            "verdict": {
                "word": verdict.word,
                "sentence": verdict.sentence,
                "reasons": list(verdict.reasons),
                "gate": {"fail_on": g.options.fail_on, "passed": satisfied},
                "exit_code": int(code),
            },
            "severity": severity_block(worst),
            "confidence": {"level": sure.level, "reasons": list(sure.reasons)},
            "actions": actions(g.context, g.findings, g.variants, g.skipped),
            "environment": environment_block(g.device, g.pace),
        }
    )


def _worst(g: Gathered) -> Severity:
    """Severity of the worst demonstrated case whose null control held."""
    nothing = severity(Grade.NOT_SHOWN, psnr=0.0, reach=0.0)
    cases = [f.severity for f in g.findings if f.counts] + ([g.labels.severity] if g.labels else [])
    cases += [g.membership.severity] if isinstance(g.membership, Membership) else []
    return max(cases, key=lambda s: s.score, default=nothing)


def _verdict(g: Gathered, cut_short: tuple[str, ...]) -> Verdict:
    grades = [f.grade for f in g.findings if f.counts] + ([g.labels.grade] if g.labels else [])
    grades += [g.membership.grade] if isinstance(g.membership, Membership) else []
    uncounted = [f for f in g.findings if not f.counts and f.grade > Grade.NOT_SHOWN]
    grade = max(grades, default=Grade.NOT_SHOWN)
    blocked = g.failed
    if grade < Grade.RECOGNISABLE:
        blocked += tuple(f"{name} could not be run" for name in g.untested)
    if uncounted and grade < Grade.RECOGNISABLE:
        blocked += tuple(
            f"null update: {f.attack.title} "
            + ("was not at chance" if f.null_at_chance is False else "could not be run")
            for f in uncounted
        )
    failures = (Outcome.DIVERGED, Outcome.UNVERIFIED)
    searched = [f for f in g.findings if any(r.reconstruction.outcome not in failures for r in f.results)]
    return decide(
        grade,
        failed_controls=blocked,
        exposure=None if g.exposed is None else g.exposed.all,
        out_of_budget=cut_short,
        attacked=bool(searched),
    )


def _failed_nulls(g: Gathered) -> tuple[str, ...]:
    return tuple(f.attack.title for f in g.findings if f.null_at_chance is False)


def _cut_short(g: Gathered) -> tuple[str, ...]:
    """Attacks that the budget kept from finishing; an attack that was exact has nothing left to gain."""
    unfinished = ("out-of-budget", "failed")
    left_out = [f"{s.what}: {s.reason}" for s in g.skipped if s.stage == "invert" and s.because in unfinished]
    falling = [
        f"{f.attack.name}: diverged in every run"
        for f in g.findings
        if all(r.reconstruction.outcome is Outcome.DIVERGED for r in f.results)
    ]
    for f in g.findings:
        count = sum(r.reconstruction.outcome is Outcome.OUT_OF_BUDGET for r in f.results)
        if count and f.grade < Grade.EXACT:
            falling.append(
                f"{f.attack.name}: still improving when its budget ended in {count} of {len(f.results)} runs"
            )
    return tuple(left_out + falling)


def _tool(g: Gathered) -> dict[str, Any]:
    identity = "\x1f".join(
        (__version__, g.context.target.sha256, str(sorted(g.options.as_json().items(), key=str)), g.started.isoformat())
    )
    return {
        "name": "fl-audit",
        "version": __version__,
        "audit_id": hashlib.sha256(identity.encode()).hexdigest()[:12],
        "started": g.started.isoformat(timespec="seconds"),
        "seconds": round(g.clock.used, 1),
        "preset": g.preset.name,
        "seed": g.options.seed,
        "command": [printable(c, 300) for c in g.options.command],
        "max_time": g.clock.seconds,
        "options": _plain_texts(g.options.as_json()),
    }


def _plain_texts(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options with their texts made printable: paths are what somebody called a file."""

    def shown(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [shown(item) for item in value]
        return printable(value, 300) if isinstance(value, str) else value

    return {name: shown(value) for name, value in options.items()}


def _model(g: Gathered) -> dict[str, Any]:
    target, sent = g.context.target, g.context.protocol.sent
    parameters = target.parameters
    spec = target.input
    return {
        "name": printable(target.name),
        "source": printable(target.source, 300),
        "format": target.format,
        "sha256": target.sha256,
        "classes": target.classes,
        "seconds_to_load": round(target.seconds, 2),
        "input": {name: plain(getattr(spec, name)) for name in spec.__slots__},  # type: ignore[attr-defined]
        "parameters": {
            "tensors": len(parameters),
            "elements": sum(p.numel() for p in parameters.values()),
            "sent_tensors": len(sent),
            "sent_elements": sum(parameters[n].numel() for n in sent),
        },
        "operators": {printable(k): v for k, v in target.operators.items()},
        "fidelity": fidelity_block(target.fidelity),
        "parts": [part_block(part) for part in target.parts],
    }


def _protocol(g: Gathered) -> dict[str, Any]:
    p, target = g.context.protocol, g.context.target
    return {
        "algorithm": p.algorithm,
        "batch": p.batch,
        "loss": printable(p.loss),
        "labels": p.labels,
        "batchnorm": p.bn,
        "trainable": [printable(t) for t in p.trainable],
        "frozen": len(p.frozen),
        "dropout": p.dropout,
        "local": _local(p),
        "output": {
            "name": printable(target.output.name),
            "frames": target.output.frames,
            "activation": target.output.activation,
            "pool": g.options.temporal_pool,
        },
        "update": {"gradients": len(p.sent), "buffers": [printable(n) for n in g.observed[0].update.buffers]},
        "threat_model": {
            "id": "C",
            "title": THREAT_TITLE,
            "assumes": assumptions(g.context),
            "out_of_scope": out_of_scope(p),
        },
    }


def _local(protocol: FederatedProtocol) -> dict[str, Any] | None:
    """Local training; None for FedSGD, which has none."""
    if protocol.algorithm == "FedSGD":
        return None
    return {
        "epochs": protocol.local_epochs,
        "batch": local_batch(protocol),
        "steps": protocol.steps,
        "rate": protocol.learning_rate,
        "momentum": protocol.momentum,
    }


def _probe(o: Observed) -> dict[str, Any]:
    p: Probe = o.probe
    return {
        "name": printable(p.name),
        "kind": p.kind,
        "sha256": p.sha256,
        "shape": list(p.clip.shape),
        "native_shape": list(p.native.shape),
        "source": printable(p.source, 300),
        "licence": printable(p.licence, 300),
        "label": plain(o.labels[0]),
    }


def _labels(g: Gathered) -> dict[str, Any]:
    if g.labels is None:
        guess = g.observed[0].guess
        why = guess.reason if isinstance(guess, Skipped) else ""
        return {"rule": None, "interval": None, "grade": None, "reason": why}
    return {
        "rule": g.labels.rule,
        "interval": interval_block(g.labels.interval),
        "grade": g.labels.grade.name,
        "reason": "",
    }


def _exposure_block(g: Gathered) -> dict[str, Any]:
    if g.exposed is None:
        reason = next((s.reason for s in g.skipped if s.stage == "expose"), "not measured")
        return {
            "all": None, "modes": None, "coverage": None, "sigma": None,
            "reason": reason, "rank_correlation": None, "probe": None,
        }  # fmt: skip
    return {
        "all": exposure_block(g.exposed.all),
        "modes": g.exposed.modes,
        "coverage": round(g.exposed.coverage, 4),
        "sigma": g.exposed.all.sigma,
        "reason": "",
        "rank_correlation": None,
        "probe": printable(g.observed[0].probe.name),
    }


def _layers(g: Gathered) -> list[dict[str, Any]]:
    flags = closed_form_flags(g.context.target.layers, g.context.protocol, g.context.target.classes)
    names = distinct(g.context.target.parameters)
    return [_layer(g, layer, flags.get(layer.index, ()), names) for layer in g.context.target.layers]


def _layer(g: Gathered, layer: Layer, flags: tuple[str, ...], names: Mapping[str, str]) -> dict[str, Any]:
    sent = any(n in g.context.protocol.sent for n in layer.parameters)
    exposure = g.exposed.layers.get(layer.index) if g.exposed is not None and sent else None
    reason = "" if exposure else "not sent" if not sent else _exposure_block(g)["reason"]
    return {
        "index": layer.index,
        "name": layer.name,
        "kind": layer.kind,
        "parameters": [names[n] for n in layer.parameters],
        "elements": layer.elements,
        "sent": sent,
        "rows": layer.rows,
        "input_shape": list(layer.input_shape),
        "output_shape": list(layer.output_shape),
        "exposure": None if exposure is None else exposure_block(exposure),
        "flags": list(flags) if sent else [],
        "reason": reason,
    }
