"""What a user's network or factory may state about its input, in plain attributes; see docs/pytorch.md."""

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from torch import Tensor

from auditor.errors import UsageError
from auditor.records import Layout
from auditor.text import printable

NAMES = ("input_shape", "layout", "mean", "std", "value_range", "classes")
OPTIONS: Mapping[str, str] = {name: f"--{name.replace('_', '-')}" for name in NAMES} | {"value_range": "--range"}


def stated(owners: Sequence[Any], shown: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the attributes of the contract, each from the first owner that has it, and notes on what was passed over.

    Only plain numbers, texts and sequences count: a network may well have a buffer or a method of the same name.

    Raises
    ------
    UsageError
        A plain value makes no sense.
    """
    found: dict[str, Any] = {}
    notes: list[str] = []
    for name in NAMES:
        for owner in owners:
            value = getattr(owner, name, None)
            if value is None or callable(value):
                continue
            if isinstance(value, Tensor):
                notes.append(
                    f"The network's own tensor '{name}' was taken as part of its forward pass, not as a statement "
                    f"about its input; give {OPTIONS[name]} if it is one."
                )
                continue
            found[name] = _READERS[name](value, f"the {name} of {shown}")
            break
    if "input_shape" in found:
        found["shape"] = found.pop("input_shape")
    return found, tuple(notes)


def _extents(value: Any, what: str) -> tuple[int, ...]:
    try:
        return tuple(int(extent) for extent in value)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{what} is not a sequence of integers", "correct it or give --input-shape") from error


def _layout(value: Any, what: str) -> str:
    if value not in get_args(Layout):
        raise UsageError(f"{what} is {printable(repr(value), 60)}", f"use one of {', '.join(get_args(Layout))}")
    return str(value)


def _numbers(value: Any, what: str) -> tuple[float, ...]:
    try:
        return (float(value),) if isinstance(value, (int, float)) else tuple(float(item) for item in value)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{what} is not a sequence of numbers", "correct it or remove it") from error


def _two(value: Any, what: str) -> tuple[float, ...]:
    numbers = _numbers(value, what)
    if len(numbers) != 2:
        raise UsageError(f"{what} is not a lowest and a highest value", "correct it or give --range")
    return numbers


def _count(value: Any, what: str) -> int:
    if isinstance(value, int):
        return value
    if isinstance(value, (list, tuple, Mapping)):
        return len(value)
    raise UsageError(f"{what} is neither a number nor a list of names", "correct it or remove it")


_READERS = {
    "input_shape": _extents,
    "layout": _layout,
    "mean": _numbers,
    "std": _numbers,
    "value_range": _two,
    "classes": _count,
}
