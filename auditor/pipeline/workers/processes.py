"""Parts made in processes of their own, several at a time: one that crashes costs its part and nothing else."""

import enum
import multiprocessing
import os
import sys
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from importlib import import_module
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from typing import Any

import torch

from auditor.journal import Kept, key_of
from auditor.pipeline.progress import Display
from auditor.pipeline.workers.ahead import Task
from auditor.pipeline.workers.count import processes_for
from auditor.records import Ceiling, Target, record
from auditor.records.work import credit
from auditor.signals import BROKE, end_now, interrupts_held, own_signals, signal_words

# A process that was ended from outside, as the system does when memory is short, may succeed when it is tried again.
_TRIES = 2


class Processes:
    """Copies of this process, `jobs` at a time, one thread each: nothing depends on how many there are.

    Parameters
    ----------
    kept
        Where they leave what they make.
    jobs
        None for as many as suit the network that is audited, which may be none.
    """

    def __init__(self, kept: Kept, jobs: int | None) -> None:
        self._given = jobs is not None
        self.jobs = jobs or 0
        self._kept = kept
        self._forking = multiprocessing.get_context("fork")
        self._display: Display | None = None
        self._to_parent: Connection | None = None
        self._parent = os.getpid()
        self._worked = self._took = 0.0
        self._running: dict[Connection, _Running] = {}
        self._early: deque[_Early] = deque()
        self._silent = False
        self._threads = torch.get_num_threads()

    @contextmanager
    def active(self, display: Display) -> Iterator[Display]:
        """Let missing parts be made in processes; yield the display that parent and processes share."""
        self._threads = torch.get_num_threads()
        self._display = display
        self._share_with(self.jobs)
        try:
            yield _Shared(self, display)
        finally:
            self._stop()
            self._share_with(0)
            self._display = None

    def suit(self, target: Target) -> None:
        """Choose how many copies attack this network, unless it was told."""
        if not (self._given or self.is_copy):
            self._share_with(processes_for(target))

    def _share_with(self, jobs: int) -> None:
        self.jobs = jobs
        # Threads of a process do not survive its copying: the parent uses none, and none of the copies does.
        torch.set_num_threads(1 if jobs else self._threads)
        self._kept.apart = self._apart if jobs else None

    def make(self, tasks: Sequence[Task], display: Display, ceiling: Ceiling, *, split: bool = True) -> None:
        """Make the parts that are missing; `split` is for several machines.

        First ones first where time may not hold them all, else longest ones first: the others fill in beside the last.
        """
        if not self.jobs or self.is_copy or self._kept.trouble:
            return
        keyed = [(key_of(task.run), task) for task in tasks]
        missing = {key: task for key, task in reversed(keyed) if key is not None and not self._kept.done(key)}
        due = list(reversed(missing.items()))
        if ceiling.seconds is None:
            due.sort(key=lambda one: -one[1].seconds)
        self._run([_Due(key=key, run=task.run, seconds=task.seconds) for key, task in due], ceiling)

    def begin(self, tasks: Sequence[Task]) -> Callable[[], None]:
        """Make parts while there is nothing else to do; nothing of them is shown, and none is tried twice."""
        early = [] if not self.jobs or self.is_copy or self._kept.trouble else [_Early(run=task.run) for task in tasks]
        self._early += early
        self._begin_early(self.jobs - 1)

        def wait_for_them() -> None:
            while any(one in early for one in (*self._early, *(one.unit for one in self._running.values()))):
                self._begin_early(self.jobs)
                self._listen()

        return wait_for_them

    def _apart(self, key: str, unit: Callable[[], object]) -> None:
        """Make one part that was not made ahead."""
        if not self.is_copy:
            self._run([_Due(key=key, run=unit)], Ceiling())

    def _run(self, due: Sequence["_Due"], ceiling: Ceiling) -> None:
        waiting, tries = deque(due), dict.fromkeys((unit.key for unit in due), 0)

        def next_one() -> _Due | None:
            if not waiting or ceiling.late(waiting[0].seconds, self._slowness):
                return None
            unit = waiting.popleft()
            tries[unit.key] += 1
            return unit

        try:
            while True:
                while self._free and (unit := next_one()) is not None:
                    self._begin(unit, due)
                if not any(one.is_due for one in self._running.values()) and (self._free or not waiting):
                    break  # what is left would end too late
                self._begin_early(0 if waiting else self.jobs)
                for one, code in self._listen():
                    if code is None:
                        one.go_on(next_one())
                    elif isinstance(one.unit, _Due) and self._ended(one.unit.key, code, tries[one.unit.key] >= _TRIES):
                        waiting.appendleft(one.unit)
        except BaseException:
            self._stop()
            raise
        self._begin_early(self.jobs - 1)  # this process works on, as one of them

    @property
    def _free(self) -> bool:
        return len(self._running) < self.jobs

    def _begin_early(self, most: int) -> None:
        while self._early and len(self._running) < most:
            self._begin(self._early.popleft(), ())

    def _listen(self) -> list[tuple["_Running", int | None]]:
        """Take up what copies tell; return those that made a part, and those that ended, with their exit codes."""
        told: list[tuple[_Running, int | None]] = []
        for pipe in wait(list(self._running)):
            assert isinstance(pipe, Connection)
            one = self._running[pipe]
            match one.listen():
                case _Told.MADE:
                    self._note_speed(one)
                    told.append((one, None))
                case _Told.ENDED:
                    del self._running[pipe]
                    told.append((one, one.join()))
        return told

    def _stop(self) -> None:
        self._early.clear()
        for one in self._running.values():
            one.stop()
        self._running.clear()

    @property
    def _slowness(self) -> float | None:
        """Seconds that a reference second takes in one of the copies, beside the others; None before any has ended."""
        return self._took / self._worked if self._worked else None

    def _begin(self, unit: "_Due | _Early", due: Sequence["_Due"]) -> None:
        """Copy this process to make a part, and then others of those that are due with it."""
        import_module("torch._dynamo")  # optimisers ask for it, which takes a second: here, and not in every copy
        pipe, of_copy = self._forking.Pipe()
        process = self._forking.Process(target=self._work, args=(unit, due, pipe, of_copy), daemon=True)
        with interrupts_held(), warnings.catch_warnings():
            # Where progress is drawn there is a thread; copies of this process never touch what it holds.
            warnings.simplefilter("ignore", DeprecationWarning)
            process.start()
        of_copy.close()
        assert self._display is not None
        self._running[pipe] = _Running(unit, process, pipe, self._display)

    def _note_speed(self, one: "_Running") -> None:
        worked = self._kept.seconds(one.unit.key) if isinstance(one.unit, _Due) else 0.0
        if worked > 0.0:
            credit(worked)
            self._worked += worked
            self._took += one.seconds

    def _ended(self, key: str, code: int, last: bool) -> bool:
        """Take up that a process ended; return whether its part has to be tried again."""
        if self._kept.done(key) or code >= 0:
            return False  # it may have raised something: the audit meets that itself when it asks for the part
        if last:
            self._kept.crash(key, f"its process was ended {_TRIES} times, at last by {signal_words(-code)}")
        return not last

    def _work(self, unit: "_Due | _Early", due: Sequence["_Due"], pipe: Connection, of_copy: Connection) -> None:
        """Be the copy: make parts as the parent names them, or what an early task asks for, and leave them."""
        pipe.close()
        own_signals(self._parent)
        torch.set_num_threads(1)
        self._to_parent = of_copy
        self._kept.be_copy()
        self._silent = isinstance(unit, _Early)
        by_key = {one.key: one for one in due}
        try:
            unit.run()
            while not self._silent:
                self.report("made")
                key = of_copy.recv()
                if key is None:
                    return
                by_key[key].run()
        except Exception:  # noqa: BLE001 - raised again in the parent, which makes the part itself
            sys.exit(BROKE)

    def report(self, *told: Any) -> None:
        """Tell the parent what goes on; a parent that is gone ends its copies."""
        assert self._to_parent is not None
        if self._silent:
            return  # the parent does something else meanwhile, and nobody empties the pipe
        try:
            self._to_parent.send(told)
        except OSError:
            end_now()

    @property
    def is_copy(self) -> bool:
        """Whether this is one of the copies."""
        return self._to_parent is not None


@record
class _Due:
    """A part that the audit waits for, by its key, and the work that is planned for it."""

    key: str
    run: Callable[[], object]
    seconds: float = 0.0


@record
class _Early:
    """What may be made while nobody waits for it."""

    run: Callable[[], object]


class _Told(enum.Enum):
    """What a copy told."""

    COURSE = enum.auto()
    MADE = enum.auto()
    ENDED = enum.auto()


class _Running:
    """A copy at work, and what is shown of it; `unit` is None once it has nothing left to do."""

    def __init__(self, unit: _Due | _Early, process: ForkProcess, pipe: Connection, display: Display) -> None:
        self.unit: _Due | _Early | None = unit
        self.is_due = isinstance(unit, _Due)
        self._pipe = pipe
        self._begun = time.monotonic()
        self._process, self._display = process, display
        self._shown = ExitStack()
        self._advance: Callable[[float], None] = lambda fraction: None

    def go_on(self, unit: _Due | None) -> None:
        """Let the copy make another part, or end."""
        self.unit, self._begun = unit, time.monotonic()
        with suppress(OSError):  # a copy that is gone is met where it is listened to
            self._pipe.send(None if unit is None else unit.key)

    @property
    def seconds(self) -> float:
        """Seconds since it began its part."""
        return time.monotonic() - self._begun

    def listen(self) -> _Told:
        """Show what the copy told, and say what it was."""
        try:
            match self._pipe.recv():
                case ("made",):
                    return _Told.MADE
                case ("unit", title, seconds):
                    self._advance = self._shown.enter_context(self._display.unit(title, seconds))
                case ("done",):
                    self._shown.close()
                case ("fraction", fraction):
                    self._advance(fraction)
                case ("note", text):
                    self._display.note(text)
        except (EOFError, OSError):
            return _Told.ENDED
        return _Told.COURSE

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
        self._pipe.close()
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
