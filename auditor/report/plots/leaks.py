"""Leak by attack and clip: one mark a clip on an axis of gain over the best guess, the null control beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from auditor.report.charts import place
from auditor.report.figures import decibels, real
from auditor.report.headline import strength
from auditor.report.language import recorded

LOW, HIGH, WIDTH = -10.0, 40.0, 440.0
_MOST_CLIPS = 12
# Marks nearer than this would cover one another.
_APART = 17.0
_LANE = 17.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakMark:
    """The best run of one attack on one clip: where it lies, the clip's number, the grade, and what it says."""

    x: float
    y: float
    number: int
    grade: str
    told: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakRow:
    """One attack: its marks, and where its null controls lie; `top` and `height` in the plot."""

    title: str
    counts: bool
    top: float
    height: float
    marks: tuple[LeakMark, ...]
    nulls: tuple[float, ...]


def leak_clips(results: Mapping[str, Any]) -> list[str]:
    """Return the clips of the plot by their numbers, at most twelve."""
    names = [r["probe"] for f in results["findings"] for r in f["results"] if r["score"] is not None]
    return list(dict.fromkeys(names))[:_MOST_CLIPS]


def leak_rows(results: Mapping[str, Any]) -> list[LeakRow]:
    """Return one row an attack that scored, the largest leak first; gains beyond the axis are drawn at its end."""
    clips = leak_clips(results)
    rows: list[LeakRow] = []
    top = 0.0
    for finding in results["findings"]:
        best = _best_by_clip(finding, clips)
        if not best:
            continue
        marks, lanes = _marks(best, clips)
        height = _LANE * lanes + 10
        rows.append(
            LeakRow(
                title=recorded(finding["title"]),
                counts=bool(finding.get("counts", True)),
                top=top,
                height=height,
                marks=marks,
                nulls=tuple(place(r["null"]["gain"], LOW, HIGH, WIDTH) for r in best.values() if r["null"]),
            )
        )
        top += height
    return rows


def _best_by_clip(finding: Mapping[str, Any], clips: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for result in finding["results"]:
        name = result["probe"]
        if result["score"] is None or name not in clips or real(result["score"]["gain"]) is None:
            continue
        if name not in found or strength(result) > strength(found[name]):
            found[name] = result
    return found


def _marks(best: Mapping[str, Any], clips: Sequence[str]) -> tuple[tuple[LeakMark, ...], int]:
    """Lay marks out from left to right, one lane lower wherever two would touch."""
    ordered = sorted(best.items(), key=lambda item: place(item[1]["score"]["gain"], LOW, HIGH, WIDTH))
    ends: list[float] = []
    marks = []
    for name, result in ordered:
        x = place(result["score"]["gain"], LOW, HIGH, WIDTH)
        lane = next((n for n, end in enumerate(ends) if x - end >= _APART), len(ends))
        if lane == len(ends):
            ends.append(x)
        ends[lane] = x
        told = f"{name}: {decibels(result['score']['gain'], signed=True)}"
        marks.append(LeakMark(x=x, y=_LANE * lane, number=clips.index(name) + 1, grade=result["grade"], told=told))
    return tuple(marks), max(1, len(ends))
