"""Work, counted by tensor operations and told in reference seconds: the same on every machine, busy or idle."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from auditor.records.operation_cost import operation_seconds, seconds_ahead

P = ParamSpec("P")
R = TypeVar("R")


class _Work:
    """Reference seconds so far; what is done while nobody counts is free."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.spared = 0.0
        self.counter: _Counter | None = None
        self.limit: Limit | None = None


class TooMuchWork(Exception):
    """What runs inside `at_most` has counted all that it was allowed."""


class Limit:
    """The count that ends what runs inside `at_most`, and whether it was `met`: TorchScript hides exceptions."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.met = False


_WORK = _Work()


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds the cost of every operation that runs, backward passes included."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Return False: skipping the compiler would import it first, which takes a second, and ask it every time."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        limit = _WORK.limit
        if limit is not None and _WORK.seconds + seconds_ahead(func, args) > limit.seconds:
            limit.met = True
            raise TooMuchWork
        made = func(*args, **kwargs) if kwargs else func(*args)
        _WORK.seconds += operation_seconds(func, args, made)
        return made


def work_so_far() -> float:
    """Return the reference seconds that this process has counted."""
    return _WORK.seconds


def charge(seconds: float) -> None:
    """Count work that is no operation on tensors."""
    if _WORK.counter is not None:
        _WORK.seconds += seconds


def spare(begun: float, ended: float) -> None:
    """Count work that an earlier process did while its count went from `begun` to `ended`; here it takes no time.

    Counted to the bit where this process stands at `begun` too, so that budgets come out equal.
    """
    _WORK.spared += ended - begun
    _WORK.seconds = ended if _WORK.seconds == begun else _WORK.seconds + (ended - begun)


def credit(seconds: float) -> None:
    """Take for this process's own what another one worked for it; the count goes on when its result is taken up."""
    _WORK.spared -= seconds


def work_done() -> float:
    """Return the reference seconds that this process worked itself, or others for it."""
    return _WORK.seconds - _WORK.spared


@contextmanager
def counting() -> Iterator[None]:
    """Count what runs inside; inside of another such block nothing changes."""
    if _WORK.counter is not None:
        yield
        return
    _WORK.counter = _Counter()  # type: ignore[no-untyped-call]
    try:
        with _WORK.counter:
            yield
    finally:
        _WORK.counter = None


@contextmanager
def charged(seconds: float) -> Iterator[None]:
    """Count what runs inside as `seconds`, whatever it is: for inner loops whose work is known before."""
    counter = _WORK.counter
    if counter is None or torch.utils._python_dispatch._get_current_dispatch_mode() is not counter:
        yield
        return
    # Counting costs about 15 microseconds an operation, more than most operations of small nets.
    counter.__exit__(None, None, None)  # type: ignore[no-untyped-call]
    _WORK.counter = None
    before = _WORK.seconds
    try:
        yield
    finally:
        _WORK.counter = counter
        counter.__enter__()  # type: ignore[no-untyped-call]
        _WORK.seconds = before + seconds  # what counted for itself inside does not count here


@contextmanager
def at_most(seconds: float) -> Iterator[Limit]:
    """Count what runs inside, and end it with `TooMuchWork` before an operation that would take it beyond `seconds`.

    A decomposition may take minutes and is counted before it begins; other operations are short, and counted after.
    """
    with counting():
        before, _WORK.limit = _WORK.limit, Limit(_WORK.seconds + seconds)
        try:
            yield _WORK.limit
        finally:
            _WORK.limit = before


def repeated(function: Callable[P, R]) -> Callable[P, R]:
    """Return the function with its work counted at the first call, and every later call counted as that one."""
    first: list[float] = []

    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if first:
            with charged(first[0]):
                return function(*args, **kwargs)
        begun = _WORK.seconds
        made = function(*args, **kwargs)
        first.append(_WORK.seconds - begun)
        return made

    return call


def work_of(function: Callable[[], object]) -> float:
    """Return the reference seconds of one call; asking is free, so that answers may be kept for later."""
    with counting():
        begun = _WORK.seconds
        try:
            function()
            return _WORK.seconds - begun
        finally:
            _WORK.seconds = begun
