"""Memory that tensors took and gave back, returned to the system."""

import ctypes
from collections.abc import Callable
from functools import cache


@cache
def _trim() -> Callable[[int], int] | None:
    """The C library's own way; other libraries than glibc have none, and return memory by themselves."""
    return getattr(ctypes.CDLL(None), "malloc_trim", None)


def return_free_memory() -> None:
    """Return freed memory to the system.

    glibc keeps what the activations of a pass took, in pieces that the next pass does not fit into: after a ViViT for
    32x112x112 clips was loaded, 3.0 GB stayed with a process that held 1.2.
    """
    trim = _trim()
    if trim is not None:
        trim(0)
