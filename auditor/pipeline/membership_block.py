"""Frame membership as a block of results.json (docs/results.md)."""

from typing import Any

from auditor.pipeline.blocks import interval_block, number, severity_block
from auditor.pipeline.membership import RULE, Asked, ClipAsked, Membership
from auditor.pipeline.pictures import thumbnail
from auditor.records import Skipped
from auditor.text import printable

# Frames of each kind that the report shows, of the first clip only: a table, not an album.
_SHOWN = 4


def membership_block(m: Membership | Skipped) -> dict[str, Any]:
    """Return what was asked and answered, or why nothing could be asked."""
    if isinstance(m, Skipped):
        nothing = dict.fromkeys(
            ("null_at_chance", "rate", "batch", "false_positives", "true_positives", "null", "clips_found")
        )
        told = {"rule": RULE, "reason": printable(m.reason, 300), "claims": False, "grade": "NOT_SHOWN", "clips": []}
        return {**told, **nothing}
    return {
        "rule": RULE,
        "reason": printable(m.silent, 300),
        "claims": m.claims,
        "grade": m.grade.name,
        "null_at_chance": m.null_at_chance,
        "severity": {k: v for k, v in severity_block(m.severity).items() if k in ("score", "band", "vector")},
        "rate": m.rate,
        "batch": m.batch,
        "precision": m.precision,
        "false_positives": interval_block(m.false_positives),
        "true_positives": interval_block(m.true_positives),
        "null": interval_block(m.null),
        "clips_found": interval_block(m.clips_found),
        "clips": [_clip(m, c, first=i == 0) for i, c in enumerate(m.clips)],
    }


def _clip(m: Membership, c: ClipAsked, first: bool) -> dict[str, Any]:
    return {
        "probe": printable(c.probe),
        "weight": printable(c.weight),
        "rank": c.rank,
        "rows": c.rows,
        "complete": c.complete,
        "noise": number(c.noise),
        "threshold": number(c.test.threshold),
        "calibrated": c.test.claims,
        "calibration": interval_block(c.test.false_positives),
        "frames": [_frame(m, a, first and place < _SHOWN) for place, a in _placed(c)],
    }


def _placed(c: ClipAsked) -> list[tuple[int, Asked]]:
    """Number the frames of each kind."""
    seen: dict[str, int] = {}
    placed = []
    for asked in c.asked:
        placed.append((seen.get(asked.kind, 0), asked))
        seen[asked.kind] = seen.get(asked.kind, 0) + 1
    return placed


def _frame(m: Membership, a: Asked, pictured: bool) -> dict[str, Any]:
    return {
        "kind": a.kind,
        "distance": number(a.distance),
        "claim": a.called if m.claims else None,
        "picture": thumbnail(a.frame) if pictured and a.kind != "another update" else None,
    }
