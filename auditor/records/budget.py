"""What may be spent."""

from collections.abc import Callable
from dataclasses import field

from auditor.records.work import work_so_far
from auditor.results.declare import record


class Clock:
    """Time left, in reference seconds of counted work: it stands still while a machine is busy with something else."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._start = work_so_far()

    @property
    def used(self) -> float:
        """Reference seconds of work since the clock was made."""
        return work_so_far() - self._start

    @property
    def left(self) -> float:
        """Reference seconds until the budget ends; negative after that."""
        return self.seconds - self.used


@record
class Budget:
    """What one attack on one update may spend.

    The attack stops at `seconds` of counted work (reference seconds) or `steps`, whichever comes first, and calls
    `progress` with the fraction done. A search keeps its best clips at `checkpoints` moments of every descent, for the
    auditor's budget curve.
    """

    seconds: float
    steps: int
    progress: Callable[[float], None] = field(default=lambda fraction: None)
    checkpoints: int = 0
