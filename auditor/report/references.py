"""What frames of the scene add to an attack, beyond themselves: sentences and a table."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from auditor.report.figures import decibels, real
from auditor.report.language import say

# Differences below one dB are within what seeds differ by.
_WORTH_DB = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceRow:
    """Attackers with and without frames of the scene, on one clip: PSNR and motion gain in dB, a sentence on each."""

    probe: str
    kind: str
    frames: int
    attack: str
    without: Any
    psnr: Any
    copy: Mapping[str, Any]
    motion: Any
    without_motion: Any
    null: Any
    sentence: str


def copy_sentence(score: Mapping[str, Any]) -> str:
    """Return what a reconstruction is beside the reference frames that it started from."""
    copy = score["copy"]
    alone = decibels(copy["psnr"])
    if copy["pasted"]:
        return say("the copy alone scores %(psnr)s; the result is the copy, pasted", psnr=alone)
    gain, motion = (decibels(copy[key], signed=True) for key in ("gain", "motion_beyond"))
    return say(
        "the copy alone scores %(psnr)s; %(gain)s over it, %(motion)s in motion", psnr=alone, gain=gain, motion=motion
    )


def reference_rows(results: Mapping[str, Any]) -> list[ReferenceRow]:
    """Return, for each clip and kind of attacker with frames (R1, Rk), its best run beside the best run without any."""
    rows = []
    for kind in ("R1", "Rk"):
        for probe in _probes(results, kind):
            finding, run = max(_runs(results, (kind,), probe), key=lambda pair: _level(pair[1]))
            blind = max((r for _, r in _runs(results, ("R0",), probe)), key=_level, default=None)
            rows.append(_row(probe, kind, finding, run, blind))
    return sorted(rows, key=lambda row: (row.probe, row.kind))


def _probes(results: Mapping[str, Any], kind: str) -> Sequence[str]:
    return list(dict.fromkeys(r["probe"] for f, r in _runs(results, (kind,)) if (r["score"] or {}).get("copy")))


def _runs(
    results: Mapping[str, Any], kinds: Sequence[str], probe: str | None = None
) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    for finding in results["findings"]:
        if finding["reference"] not in kinds:
            continue
        for run in finding["results"]:
            known = run["score"] and (finding["reference"] == "R0" or run["score"].get("copy"))
            if known and probe in (None, run["probe"]):
                yield finding, run


def _level(run: Mapping[str, Any]) -> float:
    value = real(run["score"]["psnr"])
    return -1.0 if value is None else value


def _row(
    probe: str, kind: str, finding: Mapping[str, Any], run: Mapping[str, Any], blind: Mapping[str, Any] | None
) -> ReferenceRow:
    score, without = run["score"], None if blind is None else blind["score"]
    return ReferenceRow(
        probe=probe,
        kind=kind,
        frames=finding.get("reference_frames", 1),
        attack=finding["title"],
        without=None if without is None else without["psnr"],
        psnr=score["psnr"],
        copy=score["copy"],
        motion=score["motion_gain"],
        without_motion=None if without is None else without["motion_gain"],
        null=None if run["null"] is None else run["null"]["psnr"],
        sentence=_verdict(score, without),
    )


def _verdict(score: Mapping[str, Any], without: Mapping[str, Any] | None) -> str:
    """Say what the update added to the frames, and what the frames added to the update."""
    copy = score["copy"]
    gain, motion = real(copy["gain"]), real(copy["motion_beyond"])
    if copy["pasted"]:
        return say("Adds nothing: the result is the frame itself.")
    if gain is None or motion is None or gain < _WORTH_DB:
        return say("Adds nothing beyond the frame itself.")
    if motion < _WORTH_DB:
        return say("Adds %(gain)s to the picture, nothing in motion beyond the frame itself.", gain=decibels(gain))
    if without is not None and (real(score["motion_gain"]) or 0.0) < (real(without["motion_gain"]) or 0.0) + _WORTH_DB:
        return say(
            "The update adds %(gain)s to the frame and %(motion)s in motion; the frame adds no motion to what the "
            "update gives without it.",
            gain=decibels(gain),
            motion=decibels(motion),
        )
    return say("Adds %(gain)s to the frame and %(motion)s in motion.", gain=decibels(gain), motion=decibels(motion))
