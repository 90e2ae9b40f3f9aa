"""Signals: what ends a command, and what processes that it starts make of them."""

import atexit
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

# What the kernel sends a process whose parent has died (prctl).
_ON_PARENTS_DEATH = 1
BROKE = 1
_SIGNALS = (signal.SIGINT, signal.SIGTERM)

_came = _held = False


def listen_to_interrupts() -> None:
    """Take up Ctrl-C and SIGTERM as KeyboardInterrupt; a Ctrl-C that whoever started this process ignores stays so."""
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _interrupt)


def raise_dropped() -> None:
    """Raise an interrupt that was dropped; whatever shows progress calls it.

    What a handler raises inside a weak reference's callback, a finaliser or a callback of `os.fork` is printed or lost,
    and Python goes on (see `sys.unraisablehook`).

    Raises
    ------
    KeyboardInterrupt
        Where one came before.
    """
    if _came:
        raise KeyboardInterrupt


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Take up interrupts when this ends: none breaks into starting a process, and the new one sees none.

    The new process has them blocked, too, until it calls `own_signals`. Where another thread is given the signal,
    Python calls its handler here all the same, which then waits.

    Raises
    ------
    KeyboardInterrupt
        One came meanwhile.
    """
    global _held
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    _held = True
    try:
        yield
    finally:
        _held = False
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    raise_dropped()


def own_signals(parent: int) -> None:
    """Leave Ctrl-C to the parent, which ends this process, and let SIGTERM end it; end when the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    _die_with(parent)


def end_with(code: int, tell: Callable[[], object] = lambda: None) -> NoReturn:
    """Say the last word and end this process with an exit code, whatever interrupts come meanwhile.

    Its work is done by then. An interrupt while output is sent or threads are waited for ends it at once, with that
    code; once Python takes itself down, which would restore what the system does on a signal, it is ignored.

    Raises
    ------
    SystemExit
        Always.
    """
    heeded = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]

    def on_interrupts(action: Callable[..., object] | signal.Handlers) -> None:
        for number in heeded:
            signal.signal(number, action)

    on_interrupts(signal.SIG_IGN)
    tell()
    on_interrupts(lambda *_: os._exit(code))
    atexit.register(on_interrupts, signal.SIG_IGN)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # nobody reads any more
            stream.flush()
    sys.exit(code)


def end_now() -> NoReturn:
    """End this process at once, without tidying up what its parent owns."""
    os._exit(BROKE)


def signal_words(number: int) -> str:
    """Name a signal that ended a process."""
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = "unknown"
    why = " (out of memory?)" if number == signal.SIGKILL else ""
    return f"signal {number}, {name}{why}"


def _die_with(parent: int) -> None:
    """End this process when its parent ends, however that ends; elsewhere than on Linux its next report ends it."""
    if sys.platform != "linux":
        return
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_ON_PARENTS_DEATH, signal.SIGKILL)
    if os.getppid() != parent:
        end_now()


def _interrupt(number: int, frame: FrameType | None) -> None:
    global _came
    _came = True
    if not _held:
        raise KeyboardInterrupt
