"""How long an audit may take by the wall clock: what would end later is left out whole, and named."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from auditor.records.work import work_done
from auditor.results.attempts import Skipped

# A whole part that would end this much later than allowed, at the speed so far, may still begin: the speed is a guess.
_TOLERANCE = 1.05
# Reference seconds kept for putting results together and drawing the report, measured: 5 for a dozen results, 12 for
# fifty. Never more than a fifth of the time.
_REPORT, _MOST_FOR_REPORT = 10.0, 0.2
# Reference seconds of work from which on the machine's speed so far says something about what comes.
_TELLING = 5.0


_BEGUN: ContextVar[float | None] = ContextVar("begun", default=None)


@contextmanager
def timed_since(moment: float) -> Iterator[None]:
    """Let ceilings that are made inside count from a moment of `time.monotonic`: what came before is the user's too."""
    token = _BEGUN.set(moment)
    try:
        yield
    finally:
        _BEGUN.reset(token)


class Ceiling:
    """The wall clock of an audit, which decides what begins, and never how long a search goes on.

    Parameters
    ----------
    seconds
        Since the ceiling was made, or the moment that `timed_since` tells, report included; None for no limit.
    """

    def __init__(self, seconds: float | None = None) -> None:
        self.seconds = seconds
        self.cuts: list[Skipped] = []
        begun = _BEGUN.get()
        self._start = time.monotonic() if begun is None else begun
        self._first: tuple[float, float] | None = None

    @property
    def used(self) -> float:
        """Seconds since it counts."""
        return time.monotonic() - self._start

    @property
    def over(self) -> bool:
        """Whether the time is up."""
        return self.seconds is not None and self.used >= self.seconds

    def too_late(self, stage: str, what: str, work: float = 0.0) -> Skipped | None:
        """Say why a part of so many reference seconds may not begin, and note it, or return None where it may."""
        if not self.late(work):
            return None
        cut = Skipped(
            stage=stage,
            what=what,
            because="out-of-budget",
            reason="it would have ended after --max-time on this machine, and was left out whole",
            remedy="give more --max-time, or run it on a machine that is not busy",
        )
        self.cuts.append(cut)
        return cut

    def late(self, work: float = 0.0, slowness: float | None = None) -> bool:
        """Tell whether a part of so many reference seconds would end too late.

        Parameters
        ----------
        slowness
            Seconds that a reference second takes where the part is made; at the speed so far if None.
        """
        if self.seconds is None:
            return False
        if slowness is None:
            slowness = self._speed_so_far()
        report = min(slowness * _REPORT, _MOST_FOR_REPORT * self.seconds)
        return self.over or self.used + slowness * work > _TOLERANCE * (self.seconds - report)

    def _speed_so_far(self) -> float:
        """Return the seconds that a reference second took since it was asked first; 1 while that says nothing."""
        used, done = self.used, work_done()
        before, begun = self._first = self._first or (used, done)
        return (used - before) / (done - begun) if done - begun >= _TELLING else 1.0
