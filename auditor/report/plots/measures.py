"""Before and after each measure: an arrow a row from what the audited protocol leaks to what the changed one does."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from auditor.report.charts import place
from auditor.report.figures import real

LOW, HIGH, WIDTH = -10.0, 40.0, 400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureRow:
    """One change: where the gain was and where it is, and whether the change may be recommended from it."""

    name: str
    before: float
    after: float
    lower: bool
    value: Any
    compared: bool


def measures(variants: Sequence[Mapping[str, Any]]) -> list[MeasureRow]:
    """Return every change whose attack was scored; none where the audited protocol itself was not."""
    base = next((v for v in variants if v["baseline"]), None)
    if base is None or real(base["gain"]) is None:
        return []
    before = place(base["gain"], LOW, HIGH, WIDTH)
    return [
        MeasureRow(
            name=v["name"],
            before=before,
            after=place(v["gain"], LOW, HIGH, WIDTH),
            lower=(real(v["gain"]) or 0.0) < (real(base["gain"]) or 0.0),
            value=v["gain"],
            compared=not v.get("not_compared"),
        )
        for v in variants
        if not v["baseline"] and real(v["gain"]) is not None
    ]
