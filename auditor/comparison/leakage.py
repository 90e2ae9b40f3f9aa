"""What an audit demonstrated of every clip, and whether it tried as hard as the audit of the baseline."""

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from auditor.results.comparison import AttackLeakage, ClipLeakage, DeterminedLayers

Results = Mapping[str, Any]
# The error of rounding pixels to 8 bits, a variance of 1/12 of a step of 1/255: beyond it two reconstructions differ in
# nothing that a file of the clip held.
SAME_PIXELS_DB = 10.0 * math.log10(12.0 * 255.0**2)
_ENDS = {"inf": math.inf, "-inf": -math.inf}


def leakage_of(results: Results, seed: int) -> tuple[ClipLeakage, ...]:
    """Return, for every clip but the canary, the strongest attack without frames of the scene that counts.

    Its value is the mean over the attack's repetitions of the PSNR above the best blind guess, at least 0 (whoever
    fails has the guess) and at most what reaches `SAME_PIXELS_DB`.
    """
    runs: dict[str, list[ClipLeakage]] = {
        p["name"]: [ClipLeakage(clip=p["name"], seed=seed, attack=None, psnr=None, leakage=0.0)]
        for p in results["probes"]
        if p["kind"] != "canary"
    }
    for finding in _without_frames(results):
        for clip, scores in _scores(finding).items():
            if finding["counts"] and clip in runs:
                runs[clip].append(_of_attack(finding["attack"], clip, seed, scores))
    return tuple(max(held, key=lambda one: (one.leakage, one.attack is not None)) for held in runs.values())


def _of_attack(attack: str, clip: str, seed: int, scores: Sequence[Mapping[str, Any]]) -> ClipLeakage:
    gain = fmean(_above_blind(score) for score in scores)
    best = max(decibels(score["psnr"]) for score in scores)
    return ClipLeakage(clip=clip, seed=seed, attack=attack, psnr=best, leakage=gain)


def _above_blind(score: Mapping[str, Any]) -> float:
    blind = max(decibels(value) for value in score["baselines"].values())
    return max(0.0, min(decibels(score["psnr"]), SAME_PIXELS_DB) - blind)


def attacks_of(audits: Sequence[Results]) -> tuple[AttackLeakage, ...]:
    """Return what each attack recovered over all audits of a model, strongest first."""
    gains: dict[str, list[float]] = {}
    best: dict[str, float] = {}
    counts: dict[str, bool] = {}
    for finding in (f for audit in audits for f in _without_frames(audit)):
        for score in (s for scores in _scores(finding).values() for s in scores):
            gains.setdefault(finding["attack"], []).append(_above_blind(score))
            best[finding["attack"]] = max(best.get(finding["attack"], -math.inf), decibels(score["psnr"]))
            counts[finding["attack"]] = counts.get(finding["attack"], True) and finding["counts"]
    rows = [
        AttackLeakage(attack=name, gain=fmean(held), best=best[name], runs=len(held), counts=counts[name])
        for name, held in gains.items()
    ]
    return tuple(sorted(rows, key=lambda row: (-row.counts, -row.gain)))


def determined_of(results: Results) -> DeterminedLayers | None:
    """Return how many layers' inputs the equations of their own gradients can determine; None where none is counted."""
    counted = [layer["determinacy"] for layer in results["layers"] if layer["determinacy"] is not None]
    if not counted:
        return None
    return DeterminedLayers(layers=sum(d["share"] >= 1.0 for d in counted), of=len(counted))


def less_effort(audits: Sequence[Results]) -> str:
    """Say in a clause why audits of a model may have found less than others for a smaller effort; empty for no reason.

    A closed form that does not apply is no reason: that its equations do not hold is what a change brings.
    """
    return next((why for audit in audits for why in _reasons(audit)), "")


def _reasons(results: Results) -> Iterator[str]:
    for cut in results["machine_cuts"] or ():
        yield f"this machine left out {cut['what']} ({cut['limit']})"
    for control in results["controls"]:
        if control["passed"] is False and control["kind"] != "blind":
            yield f"a control failed: {control['name']}"
    met = {f["attack"] for f in results["findings"]}
    for skipped in results["skipped"]:
        if skipped["stage"] == "invert" and skipped["because"] != "not-applicable" and skipped["what"] not in met:
            yield f"{skipped['what']} did not run on it: {skipped['reason']}"
    if not any(_scores(f) for f in _without_frames(results)):
        yield "no attack was carried through on it"


def decibels(value: Any) -> float:
    """Return a number of results, of which infinite ones are words; null is none."""
    return _ENDS.get(value, math.nan) if isinstance(value, str) else math.nan if value is None else float(value)


def _without_frames(results: Results) -> list[Mapping[str, Any]]:
    return [f for f in results["findings"] if not f["reference_frames"]]


def _scores(finding: Mapping[str, Any]) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for result in finding["results"]:
        if result["score"] is not None and result["kind"] != "canary":
            found.setdefault(result["probe"], []).append(result["score"])
    return found
