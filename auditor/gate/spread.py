"""How much repeats of one audit differ: a change within it is none.

The same command gives the same document but for rounding (tests/pipeline/test_repeats.py), so this is about seeds, and
about models that were trained again.
"""

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from auditor.gate.standing import BestRun, Standing
from auditor.results.consistency import GRADES

# Seeds of one attack on one clip differ by about 1 dB (score/credibility.py): less than twice that is no difference.
LEAST_DB = 2.0
# Normal quantile of 95%, two-sided, for the difference of two runs with the deviation that repetitions show.
_QUANTILE = 1.96
# Exposure depends on no seed; weights that were trained again move it. Twice the squared error is another matter.
EXPOSURE_DB = 3.0
_GIST, _RECOGNISABLE = GRADES.index("GIST"), GRADES.index("RECOGNISABLE")


@dataclass(frozen=True, slots=True)
class Spread:
    """What two runs of one attack on one clip differ by without a cause, in dB, and how that is known."""

    psnr: float
    words: str
    exposure: float = EXPOSURE_DB

    @classmethod
    def of(cls, *audits: Iterable[Standing]) -> "Spread":
        """Return the spread that repetitions in these audits show, and never less than `LEAST_DB`."""
        groups = [group for audit in audits for s in audit for group in _repeated(s.runs) if len(group) > 1]
        freedom = sum(len(group) - 1 for group in groups)
        if not freedom:
            return cls(LEAST_DB, f"{LEAST_DB:g} dB on one clip: twice what seeds of one attack differ by in benchmarks")
        deviation = math.sqrt(sum((len(g) - 1) * statistics.variance(g) for g in groups) / freedom)
        measured = max(LEAST_DB, _QUANTILE * math.sqrt(2.0) * deviation)
        return cls(
            measured, f"{measured:.1f} dB on one clip, from {freedom + len(groups)} repeated runs of these audits"
        )

    def rise(self, old: Standing, new: Standing) -> str:
        """Say what shows that the later standing gives away more, beyond the spread; empty where nothing does."""
        return self._evidence(old, new, "{less} before, {more} now")

    def fall(self, old: Standing, new: Standing) -> str:
        """Say what shows that the later standing gives away less, beyond the spread; empty where nothing does."""
        return self._evidence(new, old, "{more} before, {less} now")

    def _evidence(self, less: Standing, more: Standing, order: str) -> str:
        for name in sorted(more.intervals.keys() & less.intervals.keys()):
            few, many = less.intervals[name], more.intervals[name]
            if many["low"] > few["high"]:
                told = [f"{i['hits']} of {i['trials']}" for i in (few, many)]
                return f"{name}: {order.format(less=told[0], more=told[1])}"
        risen = self._risen(less, more)
        if not risen:
            return ""
        clip, far, near = max(risen, key=lambda found: found[2].psnr - found[1].psnr)
        return f"{clip}: {order.format(less=f'{far.psnr:.1f} dB', more=f'{near.psnr:.1f} dB')}"

    def clips(self, old: Standing, new: Standing) -> int:
        """Count the clips and repetitions on which the later standing is clearly closer."""
        return len(self._risen(old, new))

    def _risen(self, old: Standing, new: Standing) -> list[tuple[str, BestRun, BestRun]]:
        """Runs that are closer beyond the spread; where both show no more than a gist, pictures are no evidence."""
        both_gist = old.grade == new.grade == _GIST
        if both_gist or not old.runs or not new.runs:
            return []
        shared = [(clip, old.runs[clip, k], run) for (clip, k), run in new.runs.items() if (clip, k) in old.runs]
        pairs = shared or [("the best clip", _best(old.runs), _best(new.runs))]
        # Of a finding that shows somebody, the clips that show nobody may do as they like.
        least = _RECOGNISABLE if (new.grade or 0) >= _RECOGNISABLE else 0
        return [(clip, a, b) for clip, a, b in pairs if b.grade >= least and b.psnr - a.psnr > self.psnr]


def _repeated(runs: Mapping[tuple[str, int], BestRun]) -> list[list[float]]:
    groups: dict[str, list[float]] = {}
    for (probe, _), run in runs.items():
        if math.isfinite(run.psnr):
            groups.setdefault(probe, []).append(run.psnr)
    return list(groups.values())


def _best(runs: Mapping[tuple[str, int], BestRun]) -> BestRun:
    return max(runs.values(), key=lambda run: run.psnr)
