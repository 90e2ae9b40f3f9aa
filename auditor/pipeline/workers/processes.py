"""Parts made in processes of their own, several at a time: one that crashes costs its part and nothing else."""

import ctypes
import multiprocessing
import os
import signal
import sys
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from typing import Any, NoReturn

import torch

from auditor.errors import UsageError
from auditor.journal import Kept, key_of
from auditor.pipeline.progress import Display
from auditor.pipeline.workers.ahead import Task
from auditor.records import Ceiling
from auditor.records.work import credit

# A process that was ended from outside, as the system does when memory is short, may succeed when it is tried again.
_TRIES = 2
# What the kernel sends a process whose parent has died (prctl).
_ON_PARENTS_DEATH = 1
_BROKE = 1


class Processes:
    """Copies of this process, `jobs` at a time, one thread each: nothing depends on how many there are.

    Parameters
    ----------
    kept
        Where they leave what they make.
    """

    def __init__(self, kept: Kept, jobs: int) -> None:
        self.jobs = jobs
        self._kept = kept
        self._forking = multiprocessing.get_context("fork")
        self._display: Display | None = None
        self._to_parent: Connection | None = None
        self._parent = os.getpid()
        self._worked = self._took = 0.0

    @contextmanager
    def active(self, display: Display) -> Iterator[Display]:
        """Let missing parts be made in processes; yield the display that parent and processes share."""
        before = torch.get_num_threads()
        # Threads of a process do not survive its copying: there must be none, in the parent neither.
        torch.set_num_threads(1)
        self._display, self._kept.apart = display, self._apart
        try:
            yield _Shared(self, display)
        finally:
            self._kept.apart = self._display = None
            torch.set_num_threads(before)

    def make(self, tasks: Sequence[Task], display: Display, ceiling: Ceiling, *, split: bool = True) -> None:
        """Make the parts that are missing, first ones first; `split` is for several machines."""
        if self._to_parent is not None or self._kept.trouble:
            return
        keyed = [(key_of(task.run), task) for task in tasks]
        missing = {key: task for key, task in reversed(keyed) if key is not None and not self._kept.done(key)}
        self._run(dict(reversed(missing.items())), ceiling)

    def _apart(self, key: str, unit: Callable[[], object]) -> None:
        """Make one part that was not made ahead."""
        if self._to_parent is None:
            self._run({key: Task(run=unit)}, Ceiling())

    def _run(self, tasks: dict[str, Task], ceiling: Ceiling) -> None:
        waiting, tries = deque(tasks), dict.fromkeys(tasks, 0)
        running: dict[Connection, _Running] = {}
        try:
            while waiting or running:
                while (
                    waiting and len(running) < self.jobs and not ceiling.late(tasks[waiting[0]].seconds, self._slowness)
                ):
                    key = waiting.popleft()
                    tries[key] += 1
                    begun = self._begin(key, tasks[key])
                    running[begun.reports] = begun
                if not running:
                    return  # what is left would end too late
                for reports in wait(list(running)):
                    assert isinstance(reports, Connection)
                    one = running[reports]
                    if one.listen():
                        continue
                    del running[reports]
                    if self._ended(one, last=tries[one.key] >= _TRIES):
                        waiting.appendleft(one.key)
        finally:
            for one in running.values():
                one.stop()

    @property
    def _slowness(self) -> float | None:
        """Seconds that a reference second takes in one of the copies, beside the others; None before any has ended."""
        return self._took / self._worked if self._worked else None

    def _begin(self, key: str, task: Task) -> "_Running":
        reports, to_parent = self._forking.Pipe(duplex=False)
        process = self._forking.Process(target=self._work, args=(task.run, to_parent), daemon=True)
        with warnings.catch_warnings():
            # Where progress is drawn there is a thread; copies of this process never touch what it holds.
            warnings.simplefilter("ignore", DeprecationWarning)
            process.start()
        to_parent.close()
        assert self._display is not None
        return _Running(key, process, reports, self._display)

    def _ended(self, one: "_Running", last: bool) -> bool:
        """Take up that a process ended; return whether its part has to be tried again."""
        code = one.join()
        if self._kept.done(one.key):
            worked = self._kept.seconds(one.key)
            credit(worked)
            if worked > 0.0:
                self._worked += worked
                self._took += one.seconds
            return False
        if code >= 0:
            return False  # it raised something: the audit meets that itself when it asks for the part, and tells it
        if last:
            self._kept.crash(one.key, f"its process was ended {_TRIES} times, at last by {_signal(-code)}")
        return not last

    def _work(self, unit: Callable[[], object], to_parent: Connection) -> None:
        """Be the copy: make one part, and leave it in the journal."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its copies
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _die_with_parent(self._parent)
        torch.set_num_threads(1)
        self._to_parent, self._kept.apart = to_parent, None
        try:
            unit()
        except Exception:  # noqa: BLE001 - raised again in the parent, which makes the part itself
            sys.exit(_BROKE)

    def report(self, *told: Any) -> None:
        """Tell the parent what goes on; a parent that is gone ends its copies."""
        assert self._to_parent is not None
        try:
            self._to_parent.send(told)
        except OSError:
            _end()

    @property
    def is_copy(self) -> bool:
        """Whether this is one of the copies."""
        return self._to_parent is not None


class _Running:
    """A copy at work, and what is shown of it."""

    def __init__(self, key: str, process: ForkProcess, reports: Connection, display: Display) -> None:
        self.key, self.reports = key, reports
        self._begun = time.monotonic()
        self._process, self._display = process, display
        self._shown = ExitStack()
        self._advance: Callable[[float], None] = lambda fraction: None

    @property
    def seconds(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._begun

    def listen(self) -> bool:
        """Show what the copy told; return whether it may tell more."""
        try:
            match self.reports.recv():
                case ("unit", title, seconds):
                    self._advance = self._shown.enter_context(self._display.unit(title, seconds))
                case ("done",):
                    self._shown.close()
                case ("fraction", fraction):
                    self._advance(fraction)
                case ("note", text):
                    self._display.note(text)
        except (EOFError, OSError):
            return False
        return True

    def join(self) -> int:
        """Return the exit code, negative for a signal."""
        self._process.join()
        code = self._process.exitcode
        self._close()
        assert code is not None
        return code

    def stop(self) -> None:
        """End the copy."""
        self._process.kill()
        self._process.join()
        self._close()

    def _close(self) -> None:
        self._shown.close()
        self.reports.close()
        self._process.close()


class _Shared:
    """The display of an audit; in a copy of its process it tells the parent, which draws."""

    def __init__(self, processes: Processes, display: Display) -> None:
        self._processes, self._display = processes, display

    def stage(self, title: str) -> None:
        """Show a stage."""
        if not self._processes.is_copy:
            self._display.stage(title)

    @contextmanager
    def unit(self, title: str, seconds: float) -> Iterator[Callable[[float], None]]:
        """Show a unit."""
        if not self._processes.is_copy:
            with self._display.unit(title, seconds) as advance:
                yield advance
            return
        self._processes.report("unit", title, seconds)
        yield lambda fraction: self._processes.report("fraction", fraction)
        self._processes.report("done")

    def note(self, text: str) -> None:
        """Show a note."""
        if self._processes.is_copy:
            self._processes.report("note", text)
        else:
            self._display.note(text)


def check_device(device: str) -> None:
    """Raise UsageError where a device cannot be shared by copies of a process."""
    if device != "cpu" and (device != "auto" or torch.cuda.is_available()):
        raise UsageError(
            "--jobs needs a CPU: copies of a process cannot share an accelerator",
            "add --device cpu, or leave --jobs out",
        )


def _die_with_parent(parent: int) -> None:
    """End this process when its parent ends, however that ends; elsewhere than on Linux its next report ends it."""
    if sys.platform != "linux":
        return
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_ON_PARENTS_DEATH, signal.SIGKILL)
    if os.getppid() != parent:
        _end()


def _end() -> NoReturn:
    os._exit(_BROKE)


def _signal(number: int) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = "unknown"
    why = " (out of memory?)" if number == signal.SIGKILL else ""
    return f"signal {number}, {name}{why}"
