"""What may be spent."""

import time
from collections.abc import Callable
from dataclasses import field

from auditor.results.declare import record


class Clock:
    """Time left, read from a monotonic clock."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._start = time.monotonic()

    @property
    def used(self) -> float:
        """Seconds since the clock was made."""
        return time.monotonic() - self._start

    def until(self, seconds: float) -> "Clock":
        """Return a clock with the same beginning and another end."""
        other = Clock(seconds)
        other._start = self._start
        return other

    @property
    def left(self) -> float:
        """Seconds until the budget ends; negative after that."""
        return self.seconds - self.used


@record
class Budget:
    """What one attack on one update may spend.

    The attack stops at `seconds` or `steps`, whichever comes first, and calls `progress` with the fraction done. A
    search keeps its best clips at `checkpoints` moments of every descent, for the auditor's budget curve.
    """

    seconds: float
    steps: int
    progress: Callable[[float], None] = field(default=lambda fraction: None)
    checkpoints: int = 0
