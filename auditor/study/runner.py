"""Run what a study has not done yet, on several processes; interrupted anywhere, it goes on from there."""

import contextlib
import multiprocessing
import os
import time
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import torch

from auditor.errors import AuditError
from auditor.journal.folder import Journal
from auditor.records import Ceiling, record
from auditor.records.arithmetic import compute_exactly
from auditor.signals import interrupts_held, own_signals
from auditor.study.cells import StudyUnit, Training, Work
from auditor.study.contexts import Contexts, program_of, train
from auditor.study.plan import Effort, Study
from auditor.study.unit import run_unit
from auditor.text import printable

Step = Training | StudyUnit


@record
class Failure:
    """A unit that could not be done; it is tried again when the study goes on."""

    title: str
    reason: str


@record
class Progress:
    """How far a study is: units done before, now, in all; `left` seconds at the pace so far, None where unknown."""

    done: int
    total: int
    resumed: int
    title: str
    left: float | None


@record
class UnitDone:
    """What became of a study's work in this run."""

    failures: tuple[Failure, ...]
    left_out: int
    resumed: int
    seconds: float


def run_work(
    study: Study,
    work: Work,
    effort: Effort,
    journal: Journal,
    *,
    jobs: int,
    device: torch.device,
    max_time: float | None,
    tell: Callable[[Progress], None],
) -> UnitDone:
    """Do every unit whose result is not kept yet: weights first, then attacks and their nulls.

    Parameters
    ----------
    jobs
        Processes; each unit runs on one thread, so that results do not depend on how many there are.
    max_time
        No unit begins after so many seconds; those left out are counted.
    """
    clock = Ceiling(max_time)
    resumed = sum(journal.read(key) is not None for key in work.keys)
    state = _State(total=len(work.keys), resumed=resumed, done=resumed, clock=clock, tell=tell)
    failures: list[Failure] = []
    spawning = multiprocessing.get_context("spawn")
    setup = (os.getpid(), str(journal.folder), str(device), study.clips, study.training, effort)
    phases: tuple[tuple[Step, ...], ...] = (work.trainings, work.units)
    with _pool(jobs, spawning, setup) as pool:
        for phase in phases:
            todo = [step for step in phase if journal.read(step.key) is None]
            failures += _phase(pool, todo, jobs, state) if todo else []
    return UnitDone(failures=tuple(failures), left_out=state.left_out, resumed=resumed, seconds=clock.used)


class _State:
    """What the parent counts."""

    def __init__(self, total: int, resumed: int, done: int, clock: Ceiling, tell: Callable[[Progress], None]) -> None:
        self.total, self.resumed, self.done, self.clock, self.tell = total, resumed, done, clock, tell
        self.left_out = 0

    def finished(self, title: str) -> None:
        self.done += 1
        new = self.done - self.resumed
        left = self.clock.used / new * (self.total - self.done) if new else None
        self.tell(Progress(done=self.done, total=self.total, resumed=self.resumed, title=title, left=left))


@contextlib.contextmanager
def _pool(jobs: int, spawning: Any, setup: tuple[Any, ...]) -> Any:
    """A pool whose processes end at once when we are interrupted: what they had not finished is done again later."""
    pool = ProcessPoolExecutor(jobs, mp_context=spawning, initializer=_begin, initargs=setup)
    try:
        yield pool
    except BaseException:
        processes = list((pool._processes or {}).values())
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.kill()
        raise
    pool.shutdown()


def _phase(pool: ProcessPoolExecutor, todo: list[Step], jobs: int, state: _State) -> list[Failure]:
    failures: list[Failure] = []
    running: dict[Future[None], Step] = {}
    while todo or running:
        # Few are handed out at a time, so that none begins after the time is up.
        while todo and len(running) <= jobs:
            if state.clock.over:
                state.left_out += len(todo)
                todo.clear()
                break
            step = _next(todo, running)
            if step is None:
                break
            resource_tracker.ensure_running()  # its own start would let interrupts through again
            with interrupts_held():
                running[pool.submit(_do, step)] = step
        if running:
            failures += _collect(running, state)
    return failures


def _next(todo: list[Step], running: dict[Future[None], Step]) -> Step | None:
    """Take the first step that waits for no other: a null is made of a reconstruction that must be there."""
    undone = {step.key for step in (*todo, *running.values())}
    for place, step in enumerate(todo):
        if not (isinstance(step, StudyUnit) and step.own in undone):
            return todo.pop(place)
    return None


def _collect(running: dict[Future[None], Step], state: _State) -> Iterable[Failure]:
    failures = []
    for future in wait(running, return_when=FIRST_COMPLETED).done:
        step = running.pop(future)
        try:
            future.result()
        except BrokenProcessPool as error:
            raise AuditError(
                f"a process of the study was ended while it did {printable(step.title)} (out of memory?)",
                "run the same command again, with --jobs 1 if memory is short",
            ) from error
        except AuditError as error:
            failures.append(Failure(title=step.title, reason=str(error)))
        state.finished(step.title)
    return failures


_worker: tuple[Contexts, Journal, str | None, Effort, torch.device] | None = None


def _begin(parent: int, folder: str, device: str, clips: tuple[str, ...], training: str | None, effort: Effort) -> None:
    """Prepare one process; an interrupt is the parent's to handle."""
    global _worker
    own_signals(parent)  # without its parent it would wait for work for ever
    warnings.simplefilter("ignore")
    # One thread each: then nothing that comes out depends on how many units run at once.
    torch.set_num_threads(1)
    compute_exactly()  # of what the parent set, a new process has nothing
    journal = Journal(Path(folder))
    _worker = (Contexts(torch.device(device), journal, clips), journal, training, effort, torch.device(device))


def _do(step: Step) -> None:
    """Do a step; one that breaks must not cost the others, so what it raises must reach the parent whatever it is."""
    try:
        _done(step)
    except AuditError as error:
        raise AuditError(str(error)) from None
    except Exception as error:  # noqa: BLE001 - exceptions of a user's own class cannot be sent; it is counted
        first = (str(error).strip().splitlines() or [""])[0]
        raise AuditError(f"{type(error).__name__}: {first}") from None


def _done(step: Step) -> None:
    assert _worker is not None
    contexts, journal, training, effort, device = _worker
    if isinstance(step, StudyUnit):
        run_unit(step, effort, contexts, journal)
        return
    assert training is not None
    begun = time.process_time()
    weights, accuracy = train(step.model, step.seed, program_of(training), device)
    told = {"title": step.title, "model": step.model.name, "weights": step.weights, "seed": step.seed}
    journal.write(step.key, {**told, "accuracy": accuracy, "seconds": round(time.process_time() - begun, 3)}, weights)
