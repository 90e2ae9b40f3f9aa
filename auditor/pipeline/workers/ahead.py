"""Where an audit says which parts come next, so that others may make them before it asks for them one by one."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from auditor.pipeline.progress import Display
from auditor.records import Ceiling, record


@record
class Task:
    """A part that will be asked for: `run` asks for it, and `seconds` is the work that is planned for it."""

    run: Callable[[], object]
    seconds: float = 0.0


class Workers(Protocol):
    """Whoever makes parts ahead."""

    def make(self, tasks: Sequence[Task], display: Display, ceiling: Ceiling) -> None:
        """Make what is missing of the parts that the tasks ask for; the audit itself makes what is left."""
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


def make_ahead(tasks: Sequence[Task], display: Display, ceiling: Ceiling) -> None:
    """Let the parts of several tasks be made side by side, where somebody can; none may depend on another's result.

    Nothing is returned, and nothing that comes of an audit depends on it: the parts are found by their content when the
    audit asks for them. What would end after the `ceiling` is not begun.
    """
    workers = _WORKERS.get()
    if workers is not None and tasks:
        workers.make(tasks, display, ceiling)
