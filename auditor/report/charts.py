"""Where the marks of a chart go; the templates draw them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from auditor.report.figures import real
from auditor.report.language import say

EXACT_PSNR = 35.0
"""dB from which a reconstruction that points to its scene is graded EXACT; drawn as the threshold."""

_TALLEST = 60.0


def place(value: Any, low: float, high: float, width: float) -> float:
    """Return the position of `value` on an axis of `width`, clamped to its ends.

    >>> place(5, 0, 10, 200), place("inf", 0, 60, 100), place(-3, 0, 10, 200)
    (100.0, 100.0, 0.0)
    """
    number = real(value)
    if number is None or high <= low:
        return 0.0
    return round(width * max(0.0, min(1.0, (number - low) / (high - low))), 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """An attack's own objective against steps on logarithmic height, as an SVG path in a box."""

    path: str
    start: float
    end: tuple[float, float]
    steps: float
    first: float
    last: float


def curve(trace: Sequence[Sequence[Any]], width: float = 160, height: float = 40, most: int = 120) -> Curve | None:
    """Return the budget curve of a trace, or None where fewer than two points can be drawn."""
    points = [(real(s) or 0.0, value) for s, _, o in trace if 0 < (value := real(o) or 0.0) < math.inf]
    if len(points) < 2:
        return None
    stride = max(1, len(points) // most)
    points = [*points[:-1:stride], points[-1]]
    heights = [math.log10(o) for _, o in points]
    low, high = min(heights), max(heights)
    span = max(high - low, 1e-9)
    left, right = points[0][0], max(points[-1][0], points[0][0] + 1e-9)
    drawn = [
        (round(width * (s - left) / (right - left), 1), round(height * (high - h) / span, 1))
        for (s, _), h in zip(points, heights, strict=True)
    ]
    path = "M" + " L".join(f"{x} {y}" for x, y in drawn)
    return Curve(path=path, start=drawn[0][1], end=drawn[-1], steps=right, first=points[0][1], last=points[-1][1])


def exposure_range(layers: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Return the level without an update and the level of the most exposed layer, in dB."""
    measured = [layer["exposure"] for layer in layers if layer["exposure"] is not None]
    low = min((finite(e["prior"]) for e in measured), default=0.0)
    high = max((finite(e["psnr"]) for e in measured), default=low)
    return low, max(high, low + 3.0)


def finite(value: Any) -> float:
    """Return decibels for drawing: what is infinite goes to the end of the axis.

    >>> finite("inf"), finite(None), finite(12)
    (60.0, 0.0, 12.0)
    """
    return max(-_TALLEST, min(_TALLEST, real(value) or 0.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One named level on an axis of decibels."""

    name: str
    value: Any
    kind: str


def levels(results: Mapping[str, Any], score: Mapping[str, Any] | None) -> list[Mark]:
    """Return the levels that place what the best attack demonstrated beside what is exposed, where measured."""
    exposed = results["exposure"]["all"] or {}
    strongest, guess = (score["psnr"], blind(score)) if score else (None, None)
    marks = (
        Mark(name=say("linear guess without the update"), value=exposed.get("prior"), kind="chance"),
        Mark(name=say("best blind guess"), value=guess, kind="chance"),
        Mark(name=say("demonstrated by the best attack"), value=strongest, kind="shown"),
        Mark(name=say("exposed by the whole update"), value=exposed.get("psnr"), kind="exposed"),
        Mark(name=say("the most that the modes can show"), value=exposed.get("cap"), kind="ceiling"),
        Mark(name=say("exposed at most"), value=exposed.get("at_most"), kind="ceiling"),
        Mark(name=say("ceiling at float32 rounding"), value=exposed.get("ceiling"), kind="ceiling"),
    )
    return [mark for mark in marks if real(mark.value) is not None]


def blind(score: Mapping[str, Any]) -> float | None:
    """Return the level of the best blind baseline of a score, or None where none was reckoned."""
    return max((v for b in score["baselines"].values() if (v := real(b)) is not None), default=None)
