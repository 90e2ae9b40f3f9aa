"""Budget curves: how far each run of an attack came over its steps."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from auditor.report.figures import real

WIDTH, HEIGHT = 420.0, 96.0
_MOST_POINTS = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class CourseLine:
    """One run as an SVG path; `number` tells runs apart."""

    path: str
    end: tuple[float, float]
    probe: str
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Courses:
    """Every run of an attack on one pair of axes: steps to the right, `unit` upwards from `low` to `high`."""

    lines: tuple[CourseLine, ...]
    steps: float
    low: float
    high: float
    unit: str


def courses(finding: Mapping[str, Any]) -> Courses | None:
    """Return the curves of an attack; None where fewer than two points are stored.

    PSNR of the best clip so far where every run that was followed has it, else the attacker's own objective.
    """
    scored = [(r["probe"], [(p[0], real(p[3])) for p in r.get("curve") or ()]) for r in finding["results"]]
    if any(len(points) > 1 for _, points in scored):
        return _drawn(scored, "dB")
    own = [(r["probe"], [(p[0], _log(p[2])) for p in r["trace"]]) for r in finding["results"]]
    return _drawn(own, "objective")


def _log(value: Any) -> float | None:
    number = real(value)
    return None if number is None or not 0.0 < number < math.inf else math.log10(number)


def _drawn(runs: Sequence[tuple[str, list[tuple[Any, float | None]]]], unit: str) -> Courses | None:
    kept = [
        (probe, [(real(s) or 0.0, v) for s, v in points if v is not None and math.isfinite(v)])
        for probe, points in runs
    ]
    kept = [(probe, points) for probe, points in kept if len(points) > 1]
    if not kept:
        return None
    everything = [point for _, points in kept for point in points]
    steps = max(max(s for s, _ in everything), 1e-9)
    low, high = min(v for _, v in everything), max(v for _, v in everything)
    span = max(high - low, 1e-9)
    lines = []
    for number, (probe, points) in enumerate(kept, start=1):
        stride = max(1, len(points) // _MOST_POINTS)
        thin = [*points[:-1:stride], points[-1]]
        drawn = [(round(WIDTH * s / steps, 1), round(HEIGHT * (high - v) / span, 1)) for s, v in thin]
        path = "M" + " L".join(f"{x} {y}" for x, y in drawn)
        lines.append(CourseLine(path=path, end=drawn[-1], probe=probe, number=number))
    return Courses(lines=tuple(lines), steps=steps, low=low, high=high, unit=unit)
