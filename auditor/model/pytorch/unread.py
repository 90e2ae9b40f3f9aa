"""Tensors out of a checkpoint that holds other Python objects too: those are neither imported nor built."""

import pickle
from collections import OrderedDict
from collections.abc import Sequence
from typing import IO, Any

import torch

from auditor.text import printable

SHOWN = 3


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
    stand_ins = [(Unread if name.startswith("numpy.") else UnreadMapping, name) for name in names]
    with torch.serialization.safe_globals(stand_ins):  # type: ignore[arg-type]
        return torch.load(stream, map_location="cpu", weights_only=True), tuple(names)


def left_out(names: Sequence[str]) -> tuple[str, ...]:
    """Return the sentence for the report on what was not read; none if that is nothing."""
    if not names:
        return ()
    shown = ", ".join(printable(name, 60) for name in names[:SHOWN])
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return (f"Python objects beside the weights were left out unread, as reading them runs code: {shown}{more}.",)
