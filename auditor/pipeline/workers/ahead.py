"""Where an audit says which parts come next, so that others may make them before it asks for them one by one."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from auditor.pipeline.progress import Display
from auditor.records import Ceiling, Target, record


@record
class Task:
    """A part that will be asked for: `run` asks for it, and `seconds` is the work that is planned for it."""

    run: Callable[[], object]
    seconds: float = 0.0


class Workers(Protocol):
    """Whoever makes parts ahead."""

    def make(self, tasks: Sequence[Task], display: Display, ceiling: Ceiling, *, split: bool = True) -> None:
        """Make what is missing of the parts that the tasks ask for; the audit itself makes what is left."""
        ...

    def suit(self, target: Target) -> None:
        """Choose how many do the work of an audit of this network, where nobody has told."""
        ...

    def begin(self, tasks: Sequence[Task]) -> Callable[[], None]:
        """Make parts while somebody is idle; return what waits for them."""
        ...


_WORKERS: ContextVar[Workers | None] = ContextVar("workers", default=None)


@contextmanager
def working(workers: Workers | None) -> Iterator[None]:
    """Let parts be made ahead while active."""
    token = _WORKERS.set(workers)
    try:
        yield
    finally:
        _WORKERS.reset(token)


def make_ahead(tasks: Sequence[Task], display: Display, ceiling: Ceiling, *, split: bool = True) -> None:
    """Let the parts of several tasks be made side by side, where somebody can; none may depend on another's result.

    Nothing is returned, and nothing that comes of an audit depends on it: the parts are found by their content when the
    audit asks for them. What would end after the `ceiling` is not begun. Several machines share the parts out, unless
    `split` is False: then each of them makes all, and can go on without the others.
    """
    workers = _WORKERS.get()
    if workers is not None and tasks:
        workers.make(tasks, display, ceiling, split=split)


def suit_workers(target: Target) -> None:
    """Tell whoever makes parts which network they are of."""
    workers = _WORKERS.get()
    if workers is not None:
        workers.suit(target)


def begin_early(tasks: Sequence[Task]) -> Callable[[], None]:
    """Let tasks run that the audit comes to much later, while somebody is idle, longest first.

    Each leaves the parts that it asks for. Nothing depends on whether it does: a part that is asked for otherwise in
    the end is made then.

    Returns
    -------
    What is called before the audit asks for the parts: it begins what is left of the tasks, and waits for all.
    """
    workers = _WORKERS.get()
    if workers is None or not tasks:
        return lambda: None
    return workers.begin(sorted(tasks, key=lambda task: -task.seconds))
