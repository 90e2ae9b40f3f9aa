"""What an audit left out because of the machine that it ran on, and what that leaves open."""

from collections import Counter
from collections.abc import Sequence

from auditor.records import Ceiling, Skipped
from auditor.results.audit import MachineCut

# What is missing here bears on no verdict: it is compared with the audit, or shown beside it.
_BESIDE = ("what-if", "enhance", "score")


def machine_cuts(ceiling: Ceiling, skipped: Sequence[Skipped]) -> tuple[MachineCut, ...]:
    """Return every part that time by the clock or memory kept from running, once each."""
    late = Counter((s.stage, s.what) for s in ceiling.cuts)
    large = Counter((s.stage, s.what) for s in skipped if s.because == "out-of-memory")
    return (
        *(MachineCut(stage=stage, what=what, limit="time", times=n) for (stage, what), n in late.items()),
        *(MachineCut(stage=stage, what=what, limit="memory", times=n) for (stage, what), n in large.items()),
    )


def open_by_time(ceiling: Ceiling) -> tuple[str, ...]:
    """Say in one clause what time by the clock leaves open, or nothing where the verdict needs none of it."""
    cuts = [s.what for s in ceiling.cuts if s.stage not in _BESIDE]
    if not cuts:
        return ()
    names = ", ".join(dict.fromkeys(cuts))
    count = f"{len(cuts)} part{'s' if len(cuts) > 1 else ''}"
    return (f"this machine was too slow for --max-time: {count} of the audit did not run ({names})",)
