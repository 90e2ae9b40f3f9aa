"""One unit of a study: compute an update, attack it, score what comes back, enhance it."""

import math
import statistics
import time
from collections.abc import Mapping
from typing import Any

import torch

from auditor.attack import BY_NAME
from auditor.pipeline.bench import Bench, Observed, observe_probes, unit_seed, view_of
from auditor.pipeline.blocks import number
from auditor.pipeline.pairing import own_clip
from auditor.pipeline.study.benches import Benches, label_for
from auditor.pipeline.study.cells import Unit
from auditor.pipeline.study.enhancers import enhanced_block
from auditor.pipeline.study.features import features_block
from auditor.pipeline.study.journal import Journal, stored
from auditor.pipeline.study.plan import Effort
from auditor.records import Budget, Clip, ClipScore, Outcome, Probe, Reconstruction, Skipped, View
from auditor.score import blind_guesses, motion_psnr, score_clip


def run_unit(unit: Unit, effort: Effort, benches: Benches, journal: Journal) -> None:
    """Do one unit and keep it. A null without a reference scores the reconstruction of another clip's update."""
    begun = time.process_time()
    bench = benches.bench(unit.cell.model, unit.training, unit.seed)
    probe = benches.probe(unit.clip, bench.input)
    reference = first_frames(probe, unit.cell.references)
    gallery = benches.gallery(probe, bench.input)
    if unit.own:
        before = journal.read(unit.own)
        if before is None:
            raise OSError("the reconstruction that this null is made of is missing")
        told = {name: before[name] for name in ("attack", "outcome", "objective", "steps", "tried")}
        clip = None if before["attack"] is None else journal.clip(unit.own)
    else:
        source = probe if unit.role == "own" else benches.probe(unit.other, bench.input)
        told, clip = _attacked(unit, effort, bench, source, reference)
    result: dict[str, Any] = {**_identity(unit), **told, "score": None, "enhanced": []}
    tensors: dict[str, torch.Tensor] = {}
    if clip is not None:
        copy = blind_guesses(gallery, (bench.input.height, bench.input.width), reference).get("reference copy")
        result["score"] = score_block(score_clip(probe, clip, gallery, reference), probe.clip, copy)
        half = slice(len(probe.clip) // 2, len(probe.clip) // 2 + 1)
        tensors |= {"clip": stored(clip), "truth": stored(probe.clip[half])}
        tensors |= {} if copy is None else {"copy": stored(copy[half])}
        enhanced = enhanced_block(unit.cell.enhance, probe, clip, gallery)
        result["enhanced"] = [block for block, _ in enhanced]
        tensors |= {f"enhanced.{i}": stored(shown) for i, (_, shown) in enumerate(enhanced)}
    # Processor time: what a unit costs, whatever else the machine does.
    result["seconds"] = round(time.process_time() - begun, 3)
    journal.write(unit.key, result, tensors)


def first_frames(probe: Probe, count: int) -> Clip | None:
    """Return the first frames of a clip as the attacker's reference; None for R0."""
    return probe.clip[:count] if count else None


def _identity(unit: Unit) -> dict[str, Any]:
    return {
        "model": unit.cell.model.name,
        "kind": unit.cell.model.kind,
        "weights": unit.cell.weights,
        "references": unit.cell.references,
        "clip": unit.clip.rpartition("/")[2],
        "seed": unit.seed,
        "role": unit.role,
    }


def _attacked(
    unit: Unit, effort: Effort, bench: Bench, source: Probe, reference: Clip | None
) -> tuple[dict[str, Any], Clip | None]:
    """Run the first attack of the cell's chain that applies to the update of `source`."""
    torch.manual_seed(unit_seed(unit.seed, "study", unit.key))
    label = label_for(source, bench.target.classes, bench)
    (observed,) = observe_probes(bench, [source], [label])
    view = view_of(bench, observed, None if reference is None else reference.to(bench.device))
    made, tried = _first_that_applies(unit, effort, view)
    if made is None:
        told: dict[str, Any] = {
            "attack": None,
            "outcome": None,
            "objective": None,
            "steps": 0,
            "tried": tried,
            "notes": [],
        }
        return told, None
    told = {
        "attack": made.attack,
        "outcome": made.outcome.name,
        "objective": number(made.objective),
        "steps": made.steps,
        "tried": tried,
        "notes": list(made.notes),
        "certificate": {name: number(value) for name, value in made.certificate.items()},
        **_features(bench, observed, view),
    }
    return told, own_clip(observed, made)


def _first_that_applies(unit: Unit, effort: Effort, view: View) -> tuple[Reconstruction | None, list[str]]:
    tried: list[str] = []
    for name in unit.cell.attacks:
        attack = BY_NAME[name]
        obstacle = attack.obstacle(view)
        if obstacle is not None:
            tried.append(f"{name}: {obstacle}")
            continue
        budget = Budget(seconds=effort.seconds, steps=effort.steps)
        result = attack.invert(view, budget, unit_seed(unit.seed, name, unit.clip, unit.role))
        if isinstance(result, Skipped):
            # What was measured on the way, such as the seconds of a step, is no result: it differs from run to run.
            short = f"{effort.steps} steps do not hold it" if result.because == "out-of-budget" else result.reason
            tried.append(f"{name}: {short}")
            continue
        if result.outcome is Outcome.UNVERIFIED:
            tried.append(f"{name}: {result.outcome.value}")
            continue
        if result.seconds > effort.seconds:
            tried.append(
                f"{name}: the clock ended it after {effort.seconds:g} s, so that it may not come out the same again"
            )
        return result, tried
    return None, tried


def score_block(score: ClipScore, truth: Clip, copy: Clip | None) -> dict[str, Any]:
    """Return the numbers of one clip that a study compares."""
    blind = max(score.baselines.values())
    return {
        "psnr": number(score.psnr),
        "blind": number(blind),
        "gain": number(score.gain),
        "copy": number(score.baselines.get("reference copy")),
        "ssim": number(statistics.median(score.ssim_frames)),
        "motion": number(score.motion),
        "motion_gain": number(score.motion_gain),
        "motion_over_copy": number(_motion_over_copy(score, truth, copy)),
        "rank": score.rank,
        "gallery": score.gallery,
        "bits": number(math.log2(score.gallery / score.rank)),
    }


def _motion_over_copy(score: ClipScore, truth: Clip, copy: Clip | None) -> float | None:
    """Return dB of the motion residual over that of the reference copy; None without one, or where nothing moves."""
    if copy is None:
        return None
    copied = motion_psnr(truth, copy)
    return score.motion - copied if math.isfinite(copied) and math.isfinite(score.motion) else None


def _features(bench: Bench, observed: Observed, view: View) -> Mapping[str, Any]:
    """Return how exactly the update gives away what a frozen extractor sends into the head (auditor's view)."""
    if not bench.target.parts:
        return {}
    return {"features": features_block(view, observed.clips[:1])}
