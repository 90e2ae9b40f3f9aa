"""What every command shows while it works, always on stderr."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def stderr() -> Any:
    """Return a console on stderr."""
    from rich.console import Console

    return Console(stderr=True)


@contextmanager
def busy(what: str) -> Iterator[None]:
    """Say on a terminal that something is being done."""
    console = stderr()
    if not console.is_terminal:
        yield
        return
    with console.status(what):
        yield
