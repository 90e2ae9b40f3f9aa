"""Records as the blocks of results.json (docs/results.md)."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from auditor.pipeline.controls import Control
from auditor.pipeline.credibility import Diagnosis, Point
from auditor.pipeline.diagnosis import Diagnosed
from auditor.pipeline.enhancement import Enhancement
from auditor.pipeline.enhancement_words import EnhancedScore
from auditor.pipeline.findings import Finding, Result
from auditor.pipeline.identity import Identity
from auditor.pipeline.pictures import pictured, strips
from auditor.pipeline.references import Copied, References
from auditor.pipeline.what_if import Variant
from auditor.pipeline.wording import finding_assumes, summary
from auditor.records import Exposure, Fidelity, ModelPart, Reconstruction, Skipped
from auditor.score import (
    FALSE_ACCEPT,
    FORMULA,
    SAME_PERSON,
    ClipScore,
    CopyScore,
    FaceMatch,
    Interval,
    Retrieval,
    Severity,
    grade_clip,
)
from auditor.text import printable


def control_block(c: Control) -> dict[str, Any]:
    """One control."""
    return {
        "name": c.name,
        "kind": c.kind,
        "passed": c.passed,
        "measured": c.measured,
        "expected": c.expected,
        "why": c.why,
        "attack": c.attack,
    }


def finding_block(
    f: Finding,
    number: int,
    enhanced: Mapping[int, tuple[Enhancement, ...]],
    diagnosed: Diagnosed | None = None,
    identity: Identity | None = None,
) -> dict[str, Any]:
    """One finding with its results; the best and median carry pictures."""
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
        "reference": reference_kind(f),
        "reference_frames": max((len(r.held) for r in f.results if r.held is not None), default=0),
        "assumes": finding_assumes(f),
        "summary": printable(summary(f), 600),
        "counts": f.counts,
        "null_at_chance": f.null_at_chance,
        "null_recall": interval_block(f.null_recall),
        "null_bits": interval_block(f.null_bits),
        "recall": interval_block(f.recall),
        "bits": interval_block(f.bits),
        "faces": None if identity is None else identity_block(identity),
        "retrieval": {name: retrieval_block(r) for name, r in f.retrieval.items()},
        "diagnosis": _diagnosed(diagnosed) if diagnosed is not None and diagnosed.finding is f else None,
        "results": [_result(f, r, enhanced.get(id(r), ()), id(r) in shown) for r in f.results],
    }


def reference_kind(f: Finding) -> str:
    """R0 without reference frames, R1 with one, Rk with several."""
    if not f.reference:
        return "R0"
    return "R1" if f.attack.frames_of_scene == 1 else "Rk"


def references_block(references: References, copied: Sequence[Copied], used: bool) -> dict[str, Any] | None:
    """Which frames attackers held, and how near these alone come to every clip; None where none was held or given."""
    if not used and references.given is None:
        return None
    unused = () if used else ("no attack that holds reference frames ran: they had no part in this audit",)
    return {
        "source": printable(references.source, 300),
        "given": references.given is not None,
        "frames": None if references.given is None else len(references.given),
        "notes": [printable(n, 300) for n in (*unused, *(n for c in copied for n in c.notes), *references.notes)],
        "copies": [
            {"probe": printable(c.probe), "frames": c.frames, "psnr": number(c.psnr), "blind": number(c.blind)}
            for c in copied
        ],
    }


def _copy(c: CopyScore) -> dict[str, Any]:
    return {
        "psnr": number(c.psnr),
        "gain": number(c.gain),
        "motion_gain": number(c.motion_gain),
        "motion_beyond": number(c.motion_beyond),
        "followed": number(c.followed),
        "pasted": c.pasted,
        "bits": c.bits,
    }


def _diagnosed(d: Diagnosed) -> dict[str, Any]:
    made = d.result.reconstruction
    return {
        "probe": printable(d.result.observed.probe.name),
        "seed": made.seed,
        "psnr": number(d.result.score.psnr),
        "objective": number(made.objective),
        **diagnosis_block(d.diagnosis),
    }


def _result(f: Finding, r: Result, enhanced: tuple[Enhancement, ...], with_pictures: bool) -> dict[str, Any]:
    return {
        "probe": printable(r.observed.probe.name),
        "kind": r.observed.probe.kind,
        "repetition": r.repetition,
        **reconstruction_block(r.reconstruction),
        "grade": grade_clip(r.score, with_reference=f.reference).name,
        "curve": curve_block(r.curve),
        "score": score_block(r.score),
        "null": None if r.null is None else score_block(r.null),
        "enhanced": [_enhancement(e) for e in enhanced],
        "pictures": strips(r, enhanced) if with_pictures else None,
    }


def reconstruction_block(made: Reconstruction) -> dict[str, Any]:
    """How an attack ended and what it cost."""
    return {
        "seed": made.seed,
        "outcome": {"code": made.outcome.name, "text": made.outcome.value},
        "objective": number(made.objective),
        "trace": [[t.step, round(t.seconds, 3), number(t.objective)] for t in made.trace],
        "steps": made.steps,
        "seconds": round(made.seconds, 2),
        "restart_objectives": [number(v) for v in made.restart_objectives],
        "certificate": {k: number(v) for k, v in made.certificate.items()},
        "labels": [plain(label) for label in made.labels],
        "notes": [printable(n, 300) for n in made.notes],
    }


def curve_block(curve: Sequence[Point]) -> list[list[Any]]:
    """The score along the way: step, seconds, objective, dB."""
    return [[p.step, round(p.seconds, 3), number(p.objective), number(p.psnr)] for p in curve]


def diagnosis_block(d: Diagnosis) -> dict[str, Any]:
    """Why an attack ended where it did, with the evidence."""
    return {
        "conclusion": {"code": d.conclusion.name, "text": d.conclusion.value},
        "update_at_truth": number(d.at_truth),
        "objective_at_truth": number(d.objective_at_truth),
        "labels_right": d.labels_right,
        "truth_started": None
        if d.truth is None
        else {
            "psnr": number(d.truth.psnr),
            "objective": number(d.truth.objective),
            "steps": d.truth.steps,
            "seconds": round(d.truth.seconds, 2),
            "course": [[step, number(value)] for step, value in d.truth.course],
        },
        "because": printable(d.because, 300),
        "exposure": number(d.exposure),
    }


def score_block(s: ClipScore) -> dict[str, Any]:
    """One reconstruction against one truth."""
    return {
        "psnr": number(s.psnr),
        "psnr_best": number(max(s.psnr_frames)),
        "psnr_median": number(statistics.median(s.psnr_frames)),
        "psnr_frames": [number(v) for v in s.psnr_frames],
        "ssim_best": number(max(s.ssim_frames)),
        "ssim_median": number(statistics.median(s.ssim_frames)),
        "ssim_frames": [number(v) for v in s.ssim_frames],
        "baselines": {k: number(v) for k, v in s.baselines.items()},
        "gain": number(s.gain),
        "motion": number(s.motion),
        "motion_gain": number(s.motion_gain),
        "rank": s.rank,
        "gallery": s.gallery,
        "bits": interval_block(s.bits),
        **({} if s.copy is None else {"copy": _copy(s.copy)}),
        "motion_correlation": number(s.motion_correlation),
        "rank_same_scene": s.rank_same_scene,
        "same_scene": s.same_scene,
        "perceptual": _measured(s.perceptual),
        "perceptual_blind": _measured(s.perceptual_blind),
        "lpips": _measured(s.lpips),
        "lpips_blind": _measured(s.lpips_blind),
        "embedding_rank": s.embedding_rank,
    }


def _measured(value: float | None) -> Any:
    return None if value is None else number(value)


def identity_block(identity: Identity) -> dict[str, Any]:
    """Whether a person is recognised: in the reconstruction, after enhancement, and in the null."""
    return {
        "probe": printable(identity.probe),
        "threshold": SAME_PERSON,
        "false_accept": FALSE_ACCEPT,
        **{name: _match(found) for name, found in identity.found.items()},
    }


def _match(found: FaceMatch | Skipped) -> dict[str, Any]:
    if isinstance(found, Skipped):
        return {"distance": None, "same": None, "truth_faces": None, "faces": None, "reason": found.reason}
    return {
        "distance": number(found.distance),
        "same": found.same,
        "truth_faces": found.truth_faces,
        "faces": found.faces,
        "reason": "",
    }


def retrieval_block(r: Retrieval | None) -> dict[str, Any] | None:
    """Retrieval over several reconstructions."""
    if r is None:
        return None
    return {
        "gallery": r.gallery,
        "recall_1": interval_block(r.first),
        "recall_5": interval_block(r.fifth),
        "mean_rank": number(r.mean_rank),
        "chance_rank": number(r.chance_rank),
        "tail": number(r.tail),
        "independent": r.independent,
    }


def _enhancement(e: Enhancement) -> dict[str, Any]:
    return {
        "method": printable(e.method),
        "scale": e.scale,
        **_enhanced_score(e.score),
        "gain_over_bicubic": number(e.gain_over_bicubic),
        "null": None if e.null is None else _enhanced_score(e.null),
        "null_gain": number(e.null_gain),
        "added": None if e.added is None else {"word": e.added.word, "sentence": e.added.sentence},
        "seconds": round(e.seconds, 2),
    }


def _enhanced_score(s: EnhancedScore) -> dict[str, Any]:
    return {
        "psnr": number(s.psnr),
        "ssim": number(s.ssim),
        "rank": s.rank,
        "sharpness": number(s.sharpness),
        "perceptual": number(s.perceptual),
        "embedding_rank": s.embedding_rank,
    }


def what_if_block(variants: tuple[Variant, ...]) -> list[dict[str, Any]]:
    """Every variant, with differences to the audited protocol."""
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
        "exposure_psnr": number(exposure),
        "delta_exposure": _difference(exposure, before) if not v.baseline else None,
        "attack": v.attack,
        "psnr": None if v.score is None else number(v.score.psnr),
        "gain": number(gain),
        "grade": None if v.grade is None else v.grade.name,
        "delta_gain": _difference(gain, gain_before) if not v.baseline else None,
        "steps": v.steps,
        "skipped": None if v.skipped is None else skipped_block(v.skipped),
    }


def _difference(now: float | None, before: float | None) -> Any:
    return None if now is None or before is None else number(now - before)


def severity_block(s: Severity) -> dict[str, Any]:
    """Severity with its formula and inputs."""
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


def interval_block(i: Interval | None) -> dict[str, Any] | None:
    """A proportion with its interval."""
    if i is None:
        return None
    return {
        "hits": i.hits, "trials": i.trials, "low": round(i.low, 4), "high": round(i.high, 4),
        "chance": round(i.chance, 6), "method": i.method,
    }  # fmt: skip


def exposure_block(e: Exposure) -> dict[str, Any]:
    """Exposure of a set of layers."""
    return {"psnr": number(e.psnr), "ceiling": number(e.ceiling), "prior": number(e.prior), "sigma": e.sigma}


def skipped_block(s: Skipped) -> dict[str, Any]:
    """Something that did not run."""
    return {
        "stage": s.stage,
        "what": printable(s.what),
        "because": s.because,
        "reason": printable(s.reason, 400),
        "remedy": printable(s.remedy, 400),
    }


def number(value: float | None) -> float | str | None:
    """JSON has no infinity: write it as a word; NaN is nothing measured."""
    if value is None or math.isnan(value):
        return None
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return float(f"{value:.6g}")


def plain(value: Any) -> Any:
    """A tuple as a list."""
    return list(value) if isinstance(value, tuple) else value


def part_block(part: ModelPart) -> dict[str, Any]:
    """One part of a two-part model."""
    return {
        "role": part.role,
        "name": printable(part.name),
        "source": printable(part.source, 300),
        "format": part.format,
        "sha256": part.sha256,
        "trained": part.role == "head",
        "tensors": part.tensors,
        "elements": part.elements,
        "fidelity": fidelity_block(part.fidelity),
    }


def fidelity_block(fidelity: Fidelity) -> dict[str, Any]:
    """How far what is differentiated is what clients train."""
    return {
        "parity_max_error": number(fidelity.parity_max_error),
        "gradient_check": number(fidelity.gradient_check),
        "double_backward": fidelity.double_backward,
        "batchnorm": fidelity.batchnorm,
        "batch": fidelity.batch,
        "upper_bound": fidelity.upper_bound,
        "notes": list(fidelity.notes),
        "origin": fidelity.origin,
        "semantics": fidelity.semantics,
        "batchnorm_evidence": fidelity.batchnorm_evidence,
        "parity": {str(size): number(error) for size, error in fidelity.parity.items()},
        "missing": list(fidelity.missing),
        "reexport": fidelity.reexport,
    }
