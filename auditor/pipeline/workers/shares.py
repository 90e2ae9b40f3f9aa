"""One machine's share of an audit's parts, where several machines have no folder in common."""

from collections.abc import Callable, Sequence

from auditor.journal import Kept, key_of
from auditor.pipeline.progress import Display
from auditor.pipeline.workers.ahead import Task, Workers
from auditor.records import Ceiling, Target


class ShareMade(Exception):
    """A machine made its share, and what comes next depends on parts of others.

    Attributes
    ----------
    here, all
        How many of the parts that are shared out are here, and how many there are.
    """

    def __init__(self, here: int, all: int) -> None:
        super().__init__(f"{here} of {all} parts are here")
        self.here, self.all = here, all


class Shard:
    """The parts that fall to the machine `index` of `count`, from 1 on: every `count`-th of those that come together.

    Parameters
    ----------
    within
        Who makes them side by side on this machine; None makes them one by one.
    """

    def __init__(self, kept: Kept, index: int, count: int, within: Workers | None) -> None:
        self._kept, self._index, self._count, self._within = kept, index, count, within
        self._here = self._all = 0

    def make(self, tasks: Sequence[Task], display: Display, ceiling: Ceiling, *, split: bool = True) -> None:
        """Make this machine's share of the parts, and go on where those of others are here already.

        Raises
        ------
        ShareMade
            They are not.
        """
        if not split:
            if self._within is not None:
                self._within.make(tasks, display, ceiling)
            return
        keyed: dict[str, Task] = {}
        for task in tasks:
            key = key_of(task.run)
            if key is not None:
                keyed.setdefault(key, task)
        own = [task for place, task in enumerate(keyed.values()) if place % self._count == self._index - 1]
        if self._within is not None:
            self._within.make(own, display, ceiling)
        for task in own:
            if not ceiling.late(task.seconds):
                task.run()
        self._all += len(keyed)
        self._here += sum(self._kept.done(key) for key in keyed)
        if self._here < self._all:
            raise ShareMade(self._here, self._all)

    def suit(self, target: Target) -> None:
        """Let those within this machine suit themselves to the network."""
        if self._within is not None:
            self._within.suit(target)

    def begin(self, tasks: Sequence[Task]) -> Callable[[], None]:
        """Begin nothing: what comes after the attacks is made where shares are put together."""
        return lambda: None


__all__ = ["Shard", "ShareMade"]
