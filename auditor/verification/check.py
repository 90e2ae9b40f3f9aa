"""One thing that was verified, and how near two numbers have to be."""

import math
from dataclasses import dataclass
from typing import Any

# Six significant digits are written, or four decimals; what is computed from them is off by a few of the last.
_RELATIVE, _ABSOLUTE = 2e-5, 2e-4


@dataclass(frozen=True, slots=True)
class Verified:
    """What was verified; `passed` is None where it could not be told. `told` is a clause for people."""

    name: str
    passed: bool | None
    told: str


def real(value: Any) -> float:
    """Return a number as results hold it: infinities are words, and what was not measured is not a number."""
    if value is None:
        return math.nan
    return float(value)


def near(a: Any, b: Any, absolute: float = _ABSOLUTE) -> bool:
    """Tell whether two numbers are the same but for the rounding of what is written."""
    x, y = real(a), real(b)
    if math.isnan(x) or math.isnan(y):
        return math.isnan(x) and math.isnan(y)
    return x == y or abs(x - y) <= absolute + _RELATIVE * max(abs(x), abs(y))
