"""Assemble results.json (docs/results.md) from what was gathered."""

import datetime
import hashlib
import math
import os
import platform
import statistics
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from auditor import __version__
from auditor.attack import Preset
from auditor.exposure import Exposed, closed_form_flags
from auditor.pipeline.bench import Bench, Observed
from auditor.pipeline.controls import Control
from auditor.pipeline.enhancement import Enhancement
from auditor.pipeline.findings import Finding, LabelFinding, Result
from auditor.pipeline.options import ScanOptions
from auditor.pipeline.pictures import pictured, strips
from auditor.pipeline.what_if import Variant
from auditor.pipeline.wording import OUT_OF_SCOPE, THREAT_TITLE, actions, assumptions, finding_assumes, summary
from auditor.records import (
    Audit,
    ClipScore,
    Clock,
    Exposure,
    Grade,
    Interval,
    Layer,
    Outcome,
    Probe,
    Skipped,
    record,
)
from auditor.score import FORMULA, Severity, Verdict, confidence, decide, gate, grade_clip, severity
from auditor.text import printable


@record
class Gathered:
    """Everything a scan measured."""

    options: ScanOptions
    preset: Preset
    started: datetime.datetime
    clock: Clock
    bench: Bench
    observed: tuple[Observed, ...]
    controls: tuple[Control, ...]
    failed: tuple[str, ...]
    exposed: Exposed | None
    findings: tuple[Finding, ...]
    labels: LabelFinding | None
    enhanced: Mapping[int, tuple[Enhancement, ...]]
    variants: tuple[Variant, ...]
    skipped: tuple[Skipped, ...]
    device: torch.device
    pace: float


def assemble(g: Gathered) -> Audit:
    """Decide the verdict and write everything down."""
    target = g.bench.target
    worst = _worst(g)
    cut_short = _cut_short(g)
    verdict = _verdict(g, cut_short)
    satisfied, code = gate(verdict.word, worst.score, worst.band, g.options.fail_on)
    sure = confidence(
        target.fidelity,
        failed_controls=g.failed + _failed_nulls(g),
        probes=sum(o.probe.kind != "canary" for o in g.observed),
        seeds=g.preset.seeds,
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
            "controls": [_control(c) for c in g.controls],
            "findings": [_finding(f, i, g.enhanced) for i, f in enumerate(g.findings, start=1)],
            "labels": _labels(g),
            "exposure": _exposure_block(g),
            "layers": _layers(g),
            "what_if": _what_if(g.variants),
            "skipped": [_skipped(s) for s in g.skipped],
            "verdict": {
                "word": verdict.word,
                "sentence": verdict.sentence,
                "reasons": list(verdict.reasons),
                "gate": {"fail_on": g.options.fail_on, "passed": satisfied},
                "exit_code": int(code),
            },
            "severity": _severity(worst),
            "confidence": {"level": sure.level, "reasons": list(sure.reasons)},
            "actions": actions(g.bench, g.findings, g.variants, g.skipped),
            "environment": _environment(g),
        }
    )


def _worst(g: Gathered) -> Severity:
    """Severity of the worst demonstrated case whose null control held."""
    nothing = severity(Grade.NOT_SHOWN, psnr=0.0, reach=0.0)
    cases = [f.severity for f in g.findings if f.counts] + ([g.labels.severity] if g.labels else [])
    return max(cases, key=lambda s: s.score, default=nothing)


def _verdict(g: Gathered, cut_short: tuple[str, ...]) -> Verdict:
    grades = [f.grade for f in g.findings if f.counts] + ([g.labels.grade] if g.labels else [])
    uncounted = [f for f in g.findings if not f.counts and f.grade > Grade.NOT_SHOWN]
    grade = max(grades, default=Grade.NOT_SHOWN)
    blocked = g.failed
    if uncounted and grade < Grade.RECOGNISABLE:
        blocked += tuple(
            f"null update: {f.attack.title} "
            + ("was not at chance" if f.null_at_chance is False else "could not be run")
            for f in uncounted
        )
    searched = [f for f in g.findings if any(r.reconstruction.outcome is not Outcome.DIVERGED for r in f.results)]
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
    left_out = [f"{s.what}: {s.reason}" for s in g.skipped if s.stage == "invert" and s.because == "out-of-budget"]
    falling = []
    for f in g.findings:
        count = sum(r.reconstruction.outcome is Outcome.OUT_OF_BUDGET for r in f.results)
        if count and f.grade < Grade.EXACT:
            falling.append(f"{f.attack.name}: still improving when its time ended in {count} of {len(f.results)} runs")
    return tuple(left_out + falling)


def _tool(g: Gathered) -> dict[str, Any]:
    identity = "\x1f".join(
        (__version__, g.bench.target.sha256, str(sorted(g.options.as_json().items(), key=str)), g.started.isoformat())
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
        "options": g.options.as_json(),
    }


def _model(g: Gathered) -> dict[str, Any]:
    target, sent = g.bench.target, g.bench.protocol.sent
    parameters = target.parameters
    spec, fidelity = target.input, target.fidelity
    return {
        "name": printable(target.name),
        "source": printable(target.source, 300),
        "format": target.format,
        "sha256": target.sha256,
        "classes": target.classes,
        "seconds_to_load": round(target.seconds, 2),
        "input": {name: _plain(getattr(spec, name)) for name in spec.__slots__},  # type: ignore[attr-defined]
        "parameters": {
            "tensors": len(parameters),
            "elements": sum(p.numel() for p in parameters.values()),
            "sent_tensors": len(sent),
            "sent_elements": sum(parameters[n].numel() for n in sent),
        },
        "operators": {printable(k): v for k, v in target.operators.items()},
        "fidelity": {
            "parity_max_error": _number(fidelity.parity_max_error),
            "gradient_check": _number(fidelity.gradient_check),
            "double_backward": fidelity.double_backward,
            "batchnorm": fidelity.batchnorm,
            "batch": fidelity.batch,
            "upper_bound": fidelity.upper_bound,
            "notes": list(fidelity.notes),
        },
    }


def _protocol(g: Gathered) -> dict[str, Any]:
    p = g.bench.protocol
    return {
        "algorithm": p.algorithm,
        "batch": p.batch,
        "loss": p.loss,
        "labels": p.labels,
        "batchnorm": p.batchnorm,
        "trainable": [printable(t) for t in p.trainable],
        "threat_model": {
            "id": "C",
            "title": THREAT_TITLE,
            "assumes": assumptions(g.bench),
            "out_of_scope": list(OUT_OF_SCOPE),
        },
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
        "label": o.labels[0],
    }


def _control(c: Control) -> dict[str, Any]:
    return {
        "name": c.name,
        "kind": c.kind,
        "passed": c.passed,
        "measured": c.measured,
        "expected": c.expected,
        "why": c.why,
        "attack": c.attack,
    }


def _finding(f: Finding, number: int, enhanced: Mapping[int, tuple[Enhancement, ...]]) -> dict[str, Any]:
    shown = pictured(f)
    return {
        "id": f"F{number}",
        "rule": "clip-reconstruction",
        "attack": f.attack.name,
        "configuration": repr(f.attack),
        "title": f.attack.title,
        "source": f.attack.source,
        "grade": f.grade.name,
        "severity": {"score": f.severity.score, "band": f.severity.band, "vector": f.severity.vector},
        "threat_model": "C",
        "reference": "R1" if f.reference else "R0",
        "assumes": finding_assumes(f),
        "summary": printable(summary(f), 600),
        "counts": f.counts,
        "null_at_chance": f.null_at_chance,
        "null_recall": _interval(f.null_recall),
        "null_bits": _interval(f.null_bits),
        "recall": _interval(f.recall),
        "bits": _interval(f.bits),
        "results": [_result(f, r, enhanced.get(id(r), ()), id(r) in shown) for r in f.results],
    }


def _result(f: Finding, r: Result, enhanced: tuple[Enhancement, ...], with_pictures: bool) -> dict[str, Any]:
    made = r.reconstruction
    return {
        "probe": printable(r.observed.probe.name),
        "kind": r.observed.probe.kind,
        "seed": made.seed,
        "repetition": r.repetition,
        "outcome": {"code": made.outcome.name, "text": made.outcome.value},
        "objective": _number(made.objective),
        "trace": [[t.step, round(t.seconds, 3), _number(t.objective)] for t in made.trace],
        "steps": made.steps,
        "seconds": round(made.seconds, 2),
        "restart_objectives": [_number(v) for v in made.restart_objectives],
        "certificate": {k: _number(v) for k, v in made.certificate.items()},
        "labels": list(made.labels),
        "notes": [printable(n, 300) for n in made.notes],
        "grade": grade_clip(r.score, with_reference=f.reference).name,
        "score": _score(r.score),
        "null": None if r.null is None else _score(r.null),
        "enhanced": [_enhancement(e) for e in enhanced],
        "pictures": strips(r, enhanced) if with_pictures else None,
    }


def _score(s: ClipScore) -> dict[str, Any]:
    return {
        "psnr": _number(s.psnr),
        "psnr_best": _number(max(s.psnr_frames)),
        "psnr_median": _number(statistics.median(s.psnr_frames)),
        "psnr_frames": [_number(v) for v in s.psnr_frames],
        "ssim_best": _number(max(s.ssim_frames)),
        "ssim_median": _number(statistics.median(s.ssim_frames)),
        "ssim_frames": [_number(v) for v in s.ssim_frames],
        "baselines": {k: _number(v) for k, v in s.baselines.items()},
        "gain": _number(s.gain),
        "motion": _number(s.motion),
        "motion_gain": _number(s.motion_gain),
        "rank": s.rank,
        "gallery": s.gallery,
        "bits": _interval(s.bits),
    }


def _enhancement(e: Enhancement) -> dict[str, Any]:
    return {
        "method": e.method,
        "scale": e.scale,
        "psnr": _number(e.score.psnr),
        "ssim": _number(e.score.ssim),
        "gain_over_bicubic": _number(e.gain_over_bicubic),
        "rank": e.score.rank,
        "null": None
        if e.null is None
        else {"psnr": _number(e.null.psnr), "ssim": _number(e.null.ssim), "rank": e.null.rank},
    }


def _labels(g: Gathered) -> dict[str, Any]:
    if g.labels is None:
        guess = g.observed[0].guess
        why = guess.reason if isinstance(guess, Skipped) else ""
        return {"rule": None, "interval": None, "grade": None, "reason": why}
    return {
        "rule": g.labels.rule,
        "interval": _interval(g.labels.interval),
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
        "all": _exposure(g.exposed.all),
        "modes": g.exposed.modes,
        "coverage": round(g.exposed.coverage, 4),
        "sigma": g.exposed.all.sigma,
        "reason": "",
        "rank_correlation": None,
        "probe": printable(g.observed[0].probe.name),
    }


def _layers(g: Gathered) -> list[dict[str, Any]]:
    flags = closed_form_flags(g.bench.target.layers, g.bench.protocol, g.bench.target.classes)
    return [_layer(g, layer, flags.get(layer.index, ())) for layer in g.bench.target.layers]


def _layer(g: Gathered, layer: Layer, flags: tuple[str, ...]) -> dict[str, Any]:
    sent = any(n in g.bench.protocol.sent for n in layer.parameters)
    exposure = g.exposed.layers.get(layer.index) if g.exposed is not None and sent else None
    reason = "" if exposure else "not sent" if not sent else _exposure_block(g)["reason"]
    return {
        "index": layer.index,
        "name": printable(layer.name),
        "kind": layer.kind,
        "parameters": [printable(n) for n in layer.parameters],
        "elements": layer.elements,
        "sent": sent,
        "rows": layer.rows,
        "input_shape": list(layer.input_shape),
        "output_shape": list(layer.output_shape),
        "exposure": None if exposure is None else _exposure(exposure),
        "flags": list(flags) if sent else [],
        "reason": reason,
    }


def _what_if(variants: tuple[Variant, ...]) -> list[dict[str, Any]]:
    base = next((v for v in variants if v.baseline), None)
    return [_variant(v, base) for v in variants]


def _variant(v: Variant, base: Variant | None) -> dict[str, Any]:
    exposure = None if v.exposed is None else v.exposed.all.psnr
    before = None if base is None or base.exposed is None else base.exposed.all.psnr
    gain = None if v.score is None else v.score.gain
    gain_before = None if base is None or base.score is None else base.score.gain
    return {
        "name": v.name,
        "change": printable(v.change, 300),
        "baseline": v.baseline,
        "exposure_psnr": _number(exposure),
        "delta_exposure": _difference(exposure, before) if not v.baseline else None,
        "attack": v.attack,
        "psnr": None if v.score is None else _number(v.score.psnr),
        "gain": _number(gain),
        "grade": None if v.grade is None else v.grade.name,
        "delta_gain": _difference(gain, gain_before) if not v.baseline else None,
        "steps": v.steps,
        "skipped": None if v.skipped is None else _skipped(v.skipped),
    }


def _difference(now: float | None, before: float | None) -> Any:
    return None if now is None or before is None else _number(now - before)


def _severity(s: Severity) -> dict[str, Any]:
    return {
        "score": s.score,
        "band": s.band,
        "vector": s.vector,
        "formula": FORMULA,
        "inputs": {
            "fidelity": {
                "value": round(s.fidelity, 3),
                "meaning": "how much of a clip the best reconstruction shows, 0 to 1",
            },
            "preconditions": {
                "value": s.preconditions,
                "meaning": "1 when the attacker needs only the update and public knowledge",
            },
            "reach": {"value": round(s.reach, 3), "meaning": "share of probe clips and seeds on which it worked"},
        },
    }


def _environment(g: Gathered) -> dict[str, Any]:
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": str(g.device) if g.device.type != "cuda" else torch.cuda.get_device_name(g.device),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count() or 0,
        "seconds_per_step": round(g.pace, 5),
    }
    for package in (
        "torch",
        "torchvision",
        "onnx",
        "onnxruntime-gpu",
        "onnxruntime",
        "numpy",
        "spandrel",
        "weasyprint",
    ):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _interval(i: Interval | None) -> dict[str, Any] | None:
    if i is None:
        return None
    return {
        "hits": i.hits, "trials": i.trials, "low": round(i.low, 4), "high": round(i.high, 4),
        "chance": round(i.chance, 6), "method": i.method,
    }  # fmt: skip


def _exposure(e: Exposure) -> dict[str, Any]:
    return {"psnr": _number(e.psnr), "ceiling": _number(e.ceiling), "prior": _number(e.prior), "sigma": e.sigma}


def _skipped(s: Skipped) -> dict[str, Any]:
    return {
        "stage": s.stage,
        "what": printable(s.what),
        "because": s.because,
        "reason": printable(s.reason, 400),
        "remedy": printable(s.remedy, 400),
    }


def _number(value: float | None) -> float | str | None:
    """JSON has no infinity: write it as a word; NaN is nothing measured."""
    if value is None or math.isnan(value):
        return None
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return float(f"{value:.6g}")


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
