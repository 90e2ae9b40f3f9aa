"""What every command shows while it works, always on stderr."""

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any


def stderr() -> Any:
    """Return a console on stderr."""
    from rich.console import Console

    return Console(stderr=True)


@contextmanager
def unheard() -> Iterator[None]:
    """Go on where whoever reads what is printed has closed the pipe (`| head`): that is no finding."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        hang_up()
    except SystemExit:  # as rich and click answer a closed pipe
        hang_up()


def hang_up() -> None:
    """Send what is still to be printed nowhere, so that Python does not complain when it ends."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def busy(what: str) -> Iterator[None]:
    """Say on a terminal that something is being done."""
    console = stderr()
    if not console.is_terminal:
        yield
        return
    with console.status(what):
        yield


@contextmanager
def starting() -> Iterator[None]:
    """Import what a command needs, and say so on a terminal.

    Nothing of it is garbage: looking for some, over and over as there is more, takes a quarter of that time.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        with busy("starting"):
            yield
    finally:
        if collecting:
            gc.enable()
