"""Was this frame in the clip? A threshold on a distance, calibrated on frames that were not."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from scipy import special

from auditor.results.scores import Interval
from auditor.score.intervals import clopper_pearson

# Never nearer than this to the closest frame that is known not to be a member.
_MARGIN = 0.5
_SMALLEST = 1e-12


@dataclass(frozen=True)
class MembershipTest:
    """A threshold on a distance, and how often it is wrong about frames that are not members.

    Attributes
    ----------
    threshold
        A frame at this distance or nearer is called a member.
    rate
        The false-positive rate that is stated.
    false_positives
        Measured: every null scene judged by a threshold from the other scenes alone; `chance` is the stated rate.
    """

    threshold: float
    rate: float
    false_positives: Interval

    @property
    def claims(self) -> bool:
        """True when there were enough nulls to show the stated rate and no more of them failed than it allows."""
        measured = self.false_positives
        return measured.trials * self.rate >= 1.0 and measured.hits <= self.rate * measured.trials

    def members(self, distances: Sequence[float]) -> tuple[bool, ...]:
        """Tell which frames are called members: none where the measured rate exceeds the stated one."""
        return tuple(self.claims and d <= self.threshold for d in distances)


def calibrate(nulls: Sequence[Sequence[float]], *, rate: float = 0.05, noise: float | None = None) -> MembershipTest:
    """Choose a threshold from the distances of null frames, one sequence a scene.

    The quantile `rate` of a log-normal fitted to them, at most half the smallest. With `noise`, the distance that
    rounding alone gives a member, the threshold is at most the geometric mean of it and the smallest null. Scenes, not
    frames, are left out in turn, because frames of one scene are alike.

    Raises
    ------
    ValueError
        Fewer than two scenes, an empty one, or a rate outside (0, 0.5).
    """
    if len(nulls) < 2 or not all(nulls):
        raise ValueError("null frames of at least two scenes are needed")
    if not 0.0 < rate < 0.5:
        raise ValueError(f"a rate of {rate} is outside (0, 0.5)")
    hits = trials = 0
    for i, held_out in enumerate(nulls):
        threshold = _threshold([d for j, scene in enumerate(nulls) if j != i for d in scene], rate, noise)
        hits += sum(d <= threshold for d in held_out)
        trials += len(held_out)
    low, high = clopper_pearson(hits, trials)
    return MembershipTest(
        threshold=_threshold([d for scene in nulls for d in scene], rate, noise),
        rate=rate,
        false_positives=Interval(
            hits=hits, trials=trials, low=low, high=high, chance=rate, method="Clopper-Pearson, 95%"
        ),
    )


def _threshold(distances: Sequence[float], rate: float, noise: float | None) -> float:
    smallest = min(distances)
    if not math.isfinite(sum(distances)):
        return -math.inf  # nothing can be told: no frame is called a member
    logs = [math.log(max(d, _SMALLEST)) for d in distances]
    spread = stdev(logs) if len(logs) > 1 else 0.0
    quantile = math.exp(fmean(logs) + float(special.ndtri(rate)) * spread)
    limits = [quantile, _MARGIN * smallest]
    if noise is not None:
        limits.append(math.sqrt(max(noise, _SMALLEST) * smallest))
    return min(limits)
