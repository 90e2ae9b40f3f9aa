"""Is a claim supported? A paired effect over scenes with its interval, held against the smallest effect that counts."""

import enum
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from scipy import special

from auditor.score.intervals import LEVEL

# With fewer scenes the interval says more about the formula than about them: t of one degree of freedom is 12.7.
LEAST_SCENES = 3


class Decision(enum.Enum):
    """What an interval says of a claim."""

    SUPPORTED = "supported"
    CONTRADICTED = "contradicted"
    UNDECIDED = "undecided"


@dataclass(frozen=True, kw_only=True)
class Effect:
    """A mean over scenes with its 95% interval.

    Attributes
    ----------
    clips
        One effect a clip, by name: seeds and models of one clip are averaged first, as they are no trials of their
        own.
    mean, low, high
        In the unit of the measure; the interval is None below `LEAST_SCENES` scenes.
    runs, scenes
        How many single runs stand behind it, and how many scenes.
    """

    clips: Mapping[str, float]
    mean: float
    low: float | None
    high: float | None
    runs: int
    scenes: int

    def decide(self, margin: float) -> Decision:
        """Supported where the whole interval lies above `margin`, contradicted where it lies below, else undecided."""
        if self.low is None or self.high is None:
            return Decision.UNDECIDED
        if self.low > margin:
            return Decision.SUPPORTED
        return Decision.CONTRADICTED if self.high < margin else Decision.UNDECIDED


def effect(
    values: Mapping[str, Sequence[float]],
    against: Mapping[str, Sequence[float]] | None = None,
    scene: Callable[[str], str] = lambda clip: clip,
) -> Effect | None:
    """Return the mean over scenes of each clip's mean value, less its mean in `against` (a paired difference).

    Student's t interval over scenes (Student, Biometrika 6, 1908): the unit that is drawn is the scene, by `scene` of a
    clip's name, so runs on one clip and clips of one scene are averaged and do not narrow it. Clips that are missing in
    `against` are left out; None where none is left. Values that are not finite are left out.
    """
    own = {clip: _finite(v) for clip, v in values.items()}
    other = None if against is None else {clip: _finite(v) for clip, v in against.items()}
    per_clip: dict[str, float] = {}
    runs = 0
    for clip, found in own.items():
        base = [0.0] if other is None else other.get(clip, [])
        if not found or not base:
            continue
        per_clip[clip] = fmean(found) - fmean(base)
        runs += len(found) + (0 if other is None else len(base))
    if not per_clip:
        return None
    by_scene: dict[str, list[float]] = {}
    for clip, value in per_clip.items():
        by_scene.setdefault(scene(clip), []).append(value)
    means = [fmean(of) for of in by_scene.values()]
    low, high = t_interval(means)
    return Effect(clips=per_clip, mean=fmean(means), low=low, high=high, runs=runs, scenes=len(means))


def t_interval(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Return the 95% interval of the mean, mean -+ t(n - 1) s / sqrt(n); (None, None) below `LEAST_SCENES` values."""
    n = len(values)
    if n < LEAST_SCENES:
        return None, None
    half = float(special.stdtrit(n - 1, 0.5 + LEVEL / 2)) * stdev(values) / math.sqrt(n)
    return fmean(values) - half, fmean(values) + half


def _finite(values: Sequence[float]) -> list[float]:
    return [v for v in values if math.isfinite(v)]
