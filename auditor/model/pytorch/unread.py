"""Tensors out of a checkpoint that holds other Python objects too: those are neither imported nor built."""

import pickle
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from auditor.text import printable

SHOWN = 3
DEEPEST = 6
NUMBERS = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "b1")


class Unread:
    """Stands for an object of a class that was not imported, and forgets what it is made from."""

    def __init__(self, *_: Any, **__: Any) -> None:
        """Take any arguments."""

    def __setstate__(self, state: Any) -> None:
        """Forget a state."""


class UnreadMapping:
    """Stands for the same where it may be a mapping: keeps the entries, which may be the weights."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        """Return the only kind of mapping that torch's reader of tensors fills and gives a state."""
        return OrderedDict()


class UnreadArray:
    """Keeps what NumPy pickles of an array: numbers as bytes, their shape and their type."""

    def __init__(self, *_: Any) -> None:
        self.state: tuple[Any, ...] = ()

    def __setstate__(self, state: Any) -> None:
        """Keep a state."""
        self.state = state if isinstance(state, tuple) else ()

    def tensor(self) -> Tensor | None:
        """Return the array; None where it holds no numbers, or is damaged."""
        if len(self.state) != 5:
            return None
        _, shape, kind, columns_first, content = self.state
        if not isinstance(kind, UnreadType) or not isinstance(content, bytes) or not isinstance(shape, tuple):
            return None
        if kind.code not in NUMBERS:
            return None
        try:
            array = np.frombuffer(content, np.dtype(kind.order + kind.code))
            array = array.reshape(shape, order="F" if columns_first else "C")
            return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), order="C"))
        except (ValueError, TypeError):
            return None


class UnreadType:
    """Keeps what NumPy pickles of the type of an array."""

    def __init__(self, code: Any = "", *_: Any) -> None:
        self.code, self.order = str(code), "<"

    def __setstate__(self, state: Any) -> None:
        """Keep the order of bytes."""
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">", "|"):
            self.order = state[1]


def _stand_in(name: str) -> Any:
    if not name.startswith("numpy."):
        return UnreadMapping
    return {"_reconstruct": UnreadArray, "dtype": UnreadType}.get(name.rpartition(".")[2], Unread)


def _with_tensors(value: Any, seen: dict[int, Any], depth: int = DEEPEST) -> Any:
    """Return a checkpoint with its arrays as tensors; each container once, as a crafted one may hold itself."""
    if isinstance(value, UnreadArray):
        return value.tensor()
    if not isinstance(value, (Mapping, list, tuple)) or not depth:
        return value
    if id(value) not in seen:
        seen[id(value)] = None
        if isinstance(value, Mapping):
            seen[id(value)] = {key: _with_tensors(inner, seen, depth - 1) for key, inner in value.items()}
        else:
            seen[id(value)] = [_with_tensors(inner, seen, depth - 1) for inner in value]
    return seen[id(value)]


def read_tensors(stream: IO[bytes]) -> tuple[Any, tuple[str, ...]]:
    """Return what torch saved, and the names of classes and functions that were not imported.

    Raises
    ------
    pickle.UnpicklingError
        It is no zip archive of torch's, or names what torch blocks.
    """
    try:
        return torch.load(stream, map_location="cpu", weights_only=True), ()
    except pickle.UnpicklingError as error:
        stream.seek(0)
        try:
            names = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(stream))
        except ValueError:
            raise error from None
    stream.seek(0)
    # torch's reader of tensors calls what stands for a name, and only that.
    stand_ins = [(_stand_in(name), name) for name in names]
    with torch.serialization.safe_globals(stand_ins):  # type: ignore[arg-type]
        content = torch.load(stream, map_location="cpu", weights_only=True)
    unread = [name for name in names if name != "numpy.ndarray" and _stand_in(name) in (Unread, UnreadMapping)]
    return _with_tensors(content, {}), tuple(unread)


def left_out(names: Sequence[str]) -> tuple[str, ...]:
    """Return the sentence for the report on what was not read; none if that is nothing."""
    if not names:
        return ()
    shown = ", ".join(printable(name, 60) for name in names[:SHOWN])
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return (f"Python objects beside the weights were left out unread, as reading them runs code: {shown}{more}.",)
