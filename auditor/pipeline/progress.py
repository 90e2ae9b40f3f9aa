"""How the pipeline tells the edge what it is doing; the edge decides how that looks."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, runtime_checkable


@runtime_checkable
class Display(Protocol):
    """Receives the course of a scan."""

    def stage(self, title: str) -> None:
        """A stage begins."""
        ...

    def unit(self, title: str, seconds: float) -> AbstractContextManager[Callable[[float], None]]:
        """Return a context manager that yields a callable taking the fraction done in [0, 1].

        `seconds` is what the unit may take, in reference seconds.
        """
        ...

    def note(self, text: str) -> None:
        """Something the user should know while waiting."""
        ...


class Silent:
    """Watches without a word."""

    def stage(self, title: str) -> None:
        """Ignore."""

    @contextmanager
    def unit(self, title: str, seconds: float) -> Iterator[Callable[[float], None]]:
        """Yield a callable that does nothing."""
        yield lambda fraction: None

    def note(self, text: str) -> None:
        """Ignore."""
