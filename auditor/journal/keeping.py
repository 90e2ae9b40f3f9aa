"""Units of work that are taken up again where an earlier process finished them."""

import fcntl
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import TypeVar

from torch import Tensor

from auditor.errors import UsageError
from auditor.journal.digest import digest_of
from auditor.journal.folder import WRITABLE, Journal
from auditor.journal.form import plain, whole
from auditor.records.work import charged, spare, work_so_far
from auditor.text import printable

T = TypeVar("T")

# What damaged files, and those of a program that had other records, raise when they are read.
_DAMAGE = (OSError, ValueError, LookupError, TypeError, AttributeError, ImportError)
_LOCK = "lock"
# What a shard says of the scan that its parts are of.
ORIGIN = "origin"
# What a journal writes, whole or aside; anything else in a folder of that name is somebody's own.
_UNIT = r"[0-9a-f]{64}\.(?:json|safetensors)"
_FILE = rf"(?:{_UNIT}|{_LOCK}|{ORIGIN}|{WRITABLE})"
_WRITTEN = re.compile(rf"{_FILE}|\.{_FILE}\..*\.part")
# What a process that was killed had begun to write of a unit.
_BEGUN = re.compile(rf"\.{_UNIT}\..*\.part")


class Crashed(RuntimeError):
    """The process that made a unit ended in it, by a signal."""


class _Asked(BaseException):
    """Carries a unit's key out of what would make it; nothing on the way may catch it."""

    def __init__(self, key: str | None) -> None:
        super().__init__(key)
        self.key = key


class Kept:
    """The finished units of one audit that has not come to its end, in a folder of their own.

    Attributes
    ----------
    taken, added
        How many units were taken up, and how many were finished since.
    trouble
        Why units cannot be kept any more; empty as long as they can. A full disk costs the way back, not the audit.
    apart
        What makes a unit that is missing in another process, where there is one; called with its key and what makes and
        keeps it. Afterwards it is here, or it is made in this process.
    """

    def __init__(self, folder: Path, program: str, tell: Callable[[str], None]) -> None:
        self.folder = folder
        self.taken = self.added = 0
        self.trouble = ""
        self.apart: Callable[[str, Callable[[], object]], None] | None = None
        self._journal = Journal(folder)
        self._program = program
        self._tell = tell
        self._untold = self.units

    def be_copy(self) -> None:
        """Belong to a copy of the process that keeps the audit: make every part here, and leave it to that to tell."""
        self.apart, self._untold = None, 0

    @property
    def units(self) -> int:
        """How many finished units the folder holds."""
        return len(list(self.folder.glob("*.json")))

    def key(self, stage: str, parts: Callable[[], Sequence[object]]) -> str | None:
        """Return what names a unit by all that it depends on; None where something among it has no content."""
        try:
            return digest_of(self._program, stage, *parts())
        except TypeError:
            return None

    def read(self, key: str) -> tuple[object, float, float] | None:
        """Return a unit's result, and the counted work before and after it; None where it is not done.

        Raises
        ------
        Crashed
            The process that made it ended in it.
        """
        found = self._journal.read(key)
        if found is None:
            return None
        if "crashed" in found:
            raise Crashed(found["crashed"])
        try:
            tensors = self._journal.tensors(key) if found["tensors"] else {}
            unit = whole(found["made"], tensors), float(found["begun"]), float(found["ended"])
        except _DAMAGE:
            return None
        if self._untold:
            self._tell(f"going on with an audit that was interrupted: {self._untold} of its parts are done")
            self._untold = 0
        self.taken += 1
        return unit

    def write(self, key: str, made: object, begun: float, ended: float) -> None:
        """Keep a unit, unless an earlier one could not be kept."""
        if self.trouble:
            return
        tensors: dict[str, Tensor] = {}
        form = plain(made, tensors)
        apart = {name: tensor.clone() for name, tensor in tensors.items()}  # safetensors refuses shared memory
        try:
            self._journal.write(key, {"made": form, "begun": begun, "ended": ended, "tensors": len(apart)}, apart)
        except OSError as error:
            self.trouble = error.strerror or type(error).__name__
            self._tell(
                f"finished parts cannot be kept in {printable(str(self.folder))} ({self.trouble}): an interruption "
                "would lose them"
            )
            return
        self.added += 1

    def done(self, key: str) -> bool:
        """Tell whether a unit is finished, or known to crash."""
        return self._journal.read(key) is not None

    def seconds(self, key: str) -> float:
        """Return the counted work of a unit; 0 where it is not done."""
        found = self._journal.read(key) or {}
        return float(found.get("ended", 0.0)) - float(found.get("begun", 0.0))

    def crash(self, key: str, why: str) -> None:
        """Keep that the process that made a unit ended in it, so that no other begins it again."""
        self._journal.write(key, {"crashed": why})


_CURRENT: ContextVar[Kept | None] = ContextVar("kept", default=None)
_ASKING: ContextVar[bool] = ContextVar("asking", default=False)


@contextmanager
def journaling(folder: Path, program: str, tell: Callable[[str], None] = lambda text: None) -> Iterator[Kept]:
    """Keep units in a folder while active, and take up those that it holds.

    Parameters
    ----------
    program
        What made the units besides what they depend on: a digest of the program and its libraries.
    tell
        Where it is said that an audit goes on, or that nothing can be kept.

    Raises
    ------
    UsageError
        Another process keeps its units there, or nothing can be written there.
    """
    Journal(folder).check()
    with alone(folder):
        now = Kept(folder, program, tell)
        token = _CURRENT.set(now)
        try:
            yield now
        finally:
            _CURRENT.reset(token)
            if not now.units:
                _remove(folder)


def kept(stage: str, parts: Callable[[], Sequence[object]], make: Callable[[], T]) -> T:
    """Return what `make` returns, from the journal where an equal unit was finished before.

    Its counted work is counted in both cases. Without a journal nothing is asked and nothing is kept.

    Parameters
    ----------
    stage, parts
        What the unit is, and all that its result depends on: records, tensors and plain values. A TypeError says that
        something among it cannot be told: such a unit is made anew each time.
    """
    now = _CURRENT.get()
    if now is None:
        return make()
    with charged(0.0):  # telling a unit's name is no work of the audit
        key = now.key(stage, parts)
    if _ASKING.get():
        raise _Asked(key)
    if key is None:
        return make()

    def fresh() -> T:
        begun = work_so_far()
        made = make()
        ended = work_so_far()
        with charged(0.0):
            now.write(key, made, begun, ended)
        return made

    with charged(0.0):
        found = now.read(key)
    if found is None and now.apart is not None and not now.trouble:
        now.apart(key, fresh)
        with charged(0.0):
            found = now.read(key)
    if found is None:
        return fresh()
    made, begun, ended = found
    spare(begun, ended)
    return made  # type: ignore[return-value]


def key_of(unit: Callable[[], object]) -> str | None:
    """Return the key of the first unit that a function would ask the journal for; None where it asks for none.

    The function is run up to there; what it does on the way is not counted.
    """
    token = _ASKING.set(True)
    try:
        with charged(0.0):
            unit()
    except _Asked as asked:
        return asked.key
    finally:
        _ASKING.reset(token)
    return None


def clear(folder: Path) -> bool:
    """Remove what a journal wrote into a folder, and the folder if nothing else is in it; tell whether it is gone.

    Raises
    ------
    UsageError
        Another process keeps its units there.
    """
    with alone(folder):
        _remove(folder)
    return not folder.exists()


def _remove(folder: Path) -> None:
    _sweep(folder, _WRITTEN)
    with suppress(OSError):
        folder.rmdir()


def _sweep(folder: Path, names: re.Pattern[str]) -> None:
    for path in folder.iterdir():
        if names.fullmatch(path.name):
            path.unlink(missing_ok=True)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which ends with the process, however it ends.

    What processes of ours that were killed had begun to write there is removed, before and after.

    Raises
    ------
    UsageError
        Another process holds it.
    """
    lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # One that ended since the lock was opened has removed it: the next process would open another.
            held = os.path.samestat(os.fstat(lock), os.stat(folder / _LOCK))
        except OSError:
            held = False
        if not held:
            raise UsageError(
                f"another audit is at work in {printable(str(folder.parent))}", "wait for it, or name another --out"
            )
        with suppress(OSError):  # left-overs, which the next audit meets again
            _sweep(folder, _BEGUN)
        try:
            yield
        finally:
            with suppress(OSError):
                _sweep(folder, _BEGUN)
    finally:
        os.close(lock)
