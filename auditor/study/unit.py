"""One unit of a study: compute an update, attack it, score what comes back, enhance it."""

import math
import statistics
import time
from typing import Any

import torch

from auditor.attack import BY_NAME
from auditor.errors import AuditError
from auditor.journal.folder import Journal, stored
from auditor.pipeline.context import Context, Observed, observe_probes, unit_seed, view_of
from auditor.pipeline.pairing import own_clip
from auditor.pipeline.run_attack import run_attack
from auditor.records import Budget, Clip, Outcome, Probe, Reconstruction, Skipped, View, counting
from auditor.results.encode import document, number
from auditor.results.study import StudyScore
from auditor.score import ClipScore, blind_guesses, motion_psnr, score_clip
from auditor.study.cells import StudyUnit
from auditor.study.contexts import Contexts, label_for
from auditor.study.enhancers import enhanced_block
from auditor.study.features import Recovered, clip_features, features_block, recovered
from auditor.study.plan import Effort

# Numbers that a study takes as scoring finds them.
_AS_SCORED = ("psnr", "gain", "motion", "motion_gain", "rank", "gallery", "rank_same_scene", "same_scene")


def run_unit(unit: StudyUnit, effort: Effort, contexts: Contexts, journal: Journal) -> None:
    """Do one unit and keep it. A null without a reference scores the reconstruction of another clip's update."""
    begun = time.process_time()
    context = contexts.context(unit.cell.model, unit.training, unit.seed)
    probe = contexts.probe(unit.clip, context.input)
    gallery = contexts.gallery(probe, context.input)
    reference = first_frames(probe, unit.cell.references)
    source = probe if unit.role == "own" else contexts.probe(unit.other, context.input)
    observed, view = _seen(unit, context, source, reference)
    if unit.own:
        told, clip, found = _of_another(unit, journal)
    else:
        told, clip = _attacked(unit, effort, observed, view)
        found = _recovered(unit, effort, context, view)
    result: dict[str, Any] = {**_identity(unit), **told, "score": None, "enhanced": []}
    tensors: dict[str, torch.Tensor] = {}
    if clip is not None:
        copy = blind_guesses(gallery, (context.input.height, context.input.width), reference).get("reference copy")
        result["score"] = document(study_score(score_clip(probe, clip, gallery, reference), probe.clip, copy))
        half = slice(len(probe.clip) // 2, len(probe.clip) // 2 + 1)
        tensors |= {"clip": stored(clip), "truth": stored(probe.clip[half])}
        tensors |= {} if copy is None else {"copy": stored(copy[half])}
        enhanced = enhanced_block(unit.cell.enhance, probe, clip, gallery)
        result["enhanced"] = [document(block) for block, _ in enhanced]
        tensors |= {f"enhanced.{i}": stored(shown) for i, (_, shown) in enumerate(enhanced)}
    if context.target.parts and not unit.cell.references:
        truth = clip_features(view, probe.clip[None])[0]
        known = contexts.gallery_features(unit.cell.model, gallery, view)
        result["features"] = document(features_block(found, truth, known, own=unit.role == "own"))
        tensors |= {} if found is None else {f"features.{found.kind}": found.value.float()}
    # Processor time: what a unit costs, whatever else the machine does.
    result["seconds"] = round(time.process_time() - begun, 3)
    journal.write(unit.key, result, tensors)


def _of_another(unit: StudyUnit, journal: Journal) -> tuple[dict[str, Any], Clip | None, Recovered | None]:
    """Return what the unit of another clip's update left: its reconstruction is the null of this clip."""
    before = journal.read(unit.own)
    if before is None:
        raise OSError("the reconstruction that this null is made of is missing")
    told = {name: before[name] for name in ("attack", "outcome", "objective", "steps", "tried")}
    kept = journal.tensors(unit.own) if before["attack"] is not None else {}
    clip = kept["clip"].float() / 255.0 if kept else None
    found = next((name for name in kept if name.startswith("features.")), None)
    if found is None:
        return told, clip, None
    kind: Any = found.removeprefix("features.")
    return told, clip, Recovered(kind=kind, value=kept[found], said=before["features"]["said"])


def first_frames(probe: Probe, count: int) -> Clip | None:
    """Return the first frames of a clip as the attacker's reference; None for R0."""
    return probe.clip[:count] if count else None


def _identity(unit: StudyUnit) -> dict[str, Any]:
    return {
        "model": unit.cell.model.name,
        "kind": unit.cell.model.kind,
        "weights": unit.cell.weights,
        "references": unit.cell.references,
        "clip": unit.clip.rpartition("/")[2],
        "seed": unit.seed,
        "role": unit.role,
    }


def _seen(unit: StudyUnit, context: Context, source: Probe, reference: Clip | None) -> tuple[Observed, View]:
    """Return the update of `source` and what its attacker sees."""
    torch.manual_seed(unit_seed(unit.seed, "study", unit.key))
    label = label_for(source, context.target.classes, context)
    (observed,) = observe_probes(context, [source], [label])
    return observed, view_of(context, observed, None if reference is None else reference.to(context.device))


def _recovered(unit: StudyUnit, effort: Effort, context: Context, view: View) -> Recovered | None:
    if not context.target.parts or unit.cell.references:
        return None
    with counting():
        return recovered(view, effort.seconds)


def _attacked(unit: StudyUnit, effort: Effort, observed: Observed, view: View) -> tuple[dict[str, Any], Clip | None]:
    """Run the first attack of the cell's chain that applies to an update."""
    made, tried = _first_that_applies(unit, effort, view)
    told: dict[str, Any] = {"attack": None, "outcome": None, "objective": None, "steps": 0, "tried": tried, "notes": []}
    if made is None:
        return told, None
    told |= {
        "attack": made.attack,
        "outcome": made.outcome.name,
        "objective": number(float(made.objective)),
        "steps": made.steps,
        "notes": list(made.notes),
    }
    return told, own_clip(observed, made)


def _first_that_applies(unit: StudyUnit, effort: Effort, view: View) -> tuple[Reconstruction | None, list[str]]:
    tried: list[str] = []
    for name in unit.cell.attacks:
        budget = Budget(seconds=effort.seconds, steps=effort.steps)
        result = run_attack(BY_NAME[name], view, budget, unit_seed(unit.seed, name, unit.clip, unit.role))
        if isinstance(result, Skipped) and result.because == "failed":
            raise AuditError(f"the attack {name} failed: {result.reason}", result.remedy)
        if isinstance(result, Skipped):
            short = f"{effort.steps} steps do not hold it" if result.because == "out-of-budget" else result.reason
            tried.append(f"{name}: {short}")
            continue
        if result.outcome is Outcome.UNVERIFIED:
            tried.append(f"{name}: {result.outcome.value}")
            continue
        return result, tried
    return None, tried


def study_score(score: ClipScore, truth: Clip, copy: Clip | None) -> StudyScore:
    """Return the numbers of one clip that a study compares."""
    return StudyScore(
        **{name: getattr(score, name) for name in _AS_SCORED},
        blind=max(score.baselines.values()),
        copy=score.baselines.get("reference copy"),
        ssim=statistics.median(score.ssim_frames),
        motion_over_copy=_motion_over_copy(score, truth, copy),
        bits=math.log2(score.gallery / score.rank),
    )


def _motion_over_copy(score: ClipScore, truth: Clip, copy: Clip | None) -> float | None:
    """Return dB of the motion residual over that of the reference copy; None without one, or where nothing moves."""
    if copy is None:
        return None
    copied = motion_psnr(truth, copy)
    return score.motion - copied if math.isfinite(copied) and math.isfinite(score.motion) else None
