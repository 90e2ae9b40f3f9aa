"""Leakage against cost: where each model lies, on a logarithmic axis of operations or parameters."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from auditor.report.charts import place
from auditor.report.comparison.cells import operations
from auditor.report.figures import real, whole

WIDTH, HEIGHT, LEFT, BOTTOM = 620, 320, 56, 40
_TOP, _RIGHT = 16, 150
_MOST_LABELS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class PlottedModel:
    """One model: its place, the ends of its interval, and the height of its label, which covers no other."""

    name: str
    x: float
    y: float
    low: float | None
    high: float | None
    label: float
    baseline: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """The marks and the axes; `by` is what the cost counts."""

    by: str
    marks: tuple[PlottedModel, ...]
    ticks: tuple[tuple[float, str], ...]
    costs: tuple[tuple[float, str], ...]


def plot(results: Mapping[str, Any]) -> Plot | None:
    """Return the plot by operations where all are counted, else by parameters; None without two models."""
    shown = [c for c in results["candidates"] if c["leakage"] is not None][:_MOST_LABELS]
    if len(shown) < 2:
        return None
    by = "operations" if all(c["operations"] for c in shown) else "parameters"
    costs = [math.log10(max(1.0, real(c[by]) or 1.0)) for c in shown]
    low, high = min(costs) - 0.1, max(costs) + 0.1
    ends = [v for c in shown for k in ("mean", "low", "high") if (v := real(c["leakage"][k])) is not None]
    top = max(10.0, 1.05 * max(ends))
    bottom = min(0.0, min(ends))
    labels = _apart([_height(c["leakage"]["mean"], bottom, top) for c in shown])
    marks = tuple(
        PlottedModel(
            name=c["name"],
            x=LEFT + place(cost, low, high, _span()),
            y=_height(c["leakage"]["mean"], bottom, top),
            low=None if c["leakage"]["low"] is None else _height(c["leakage"]["low"], bottom, top),
            high=None if c["leakage"]["high"] is None else _height(c["leakage"]["high"], bottom, top),
            label=label,
            baseline=c["baseline"],
        )
        for c, cost, label in zip(shown, costs, labels, strict=True)
    )
    unit = operations if by == "operations" else whole
    return Plot(
        by=by,
        marks=marks,
        ticks=tuple((_height(v, bottom, top), f"{v:.0f}") for v in range(0, int(top) + 1, _step(top))),
        costs=tuple(
            (LEFT + place(end, low, high, _span()), unit(10.0**end)) for end in sorted({min(costs), max(costs)})
        ),
    )


def _span() -> float:
    return WIDTH - LEFT - _RIGHT


def _height(value: Any, bottom: float, top: float) -> float:
    return HEIGHT - BOTTOM - place(value, bottom, top, HEIGHT - BOTTOM - _TOP)


def _step(top: float) -> int:
    return next(step for step in (5, 10, 20, 50, 100) if top / step <= 8 or step == 100)


def _apart(heights: list[float], least: float = 13.0) -> list[float]:
    """Return heights of labels, each at least one line below the one before; the order is from top to bottom."""
    placed: dict[int, float] = {}
    last = -math.inf
    for i in sorted(range(len(heights)), key=lambda i: heights[i]):
        last = max(heights[i], last + least)
        placed[i] = last
    return [placed[i] for i in range(len(heights))]
