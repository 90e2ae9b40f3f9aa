"""Severity as it is written: a score in the familiar bands, with its vector, and of the worst case its inputs."""

from collections.abc import Mapping
from typing import Literal

from auditor.results.declare import Measured, Scalar, derived, record

Band = Literal["none", "low", "medium", "high", "critical"]
BANDS: tuple[Band, ...] = ("none", "low", "medium", "high", "critical")
_LIMITS = (0.1, 4.0, 7.0, 9.0)
_MOST = 10.0
# An exact inner value with as many numbers as the clip holds is the clip in another form, as far as counting tells.
WHOLE_MAP = 1.0
# Relative error of an inner value that counts as recovered; another clip's must lie further away.
EXACT_MAP = 1e-2


def band(score: float) -> Band:
    """Name the band of a score."""
    return BANDS[sum(score >= limit for limit in _LIMITS)]


def limits(name: Band) -> tuple[float, float]:
    """Return the lowest and the highest score of a band; scores have one decimal."""
    bottoms = (0.0, *_LIMITS)
    at = BANDS.index(name)
    return bottoms[at], _MOST if at + 1 == len(BANDS) else round(bottoms[at + 1] - 0.1, 1)


@record
class Rated:
    """A score in [0, 10], and the vector that it comes from."""

    score: Measured
    vector: str

    @derived
    def band(self) -> Band:
        """none, low (0.1-3.9), medium (4.0-6.9), high (7.0-8.9) or critical (9.0-10)."""
        return band(self.score)


@record
class SeverityInput:
    """A factor of the formula, and what it means."""

    value: Scalar
    meaning: str


@record
class SeverityBlock(Rated):
    """Severity of the worst demonstrated case, with its formula."""

    formula: str
    inputs: Mapping[str, SeverityInput]
