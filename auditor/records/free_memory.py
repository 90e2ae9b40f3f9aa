"""Memory that tensors took and gave back: kept for the next ones, or returned to the system."""

import ctypes
from collections.abc import Callable
from functools import cache

import torch

# Numbers of glibc's `mallopt`, and the most that it takes for the first.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST_KEPT, _KEPT = 32 << 20, 512 << 20


def keep_free_memory() -> None:
    """Let this process, and copies of it, keep up to 512 MiB that were freed.

    glibc gives back what lies free beyond 64 MiB, and the system clears every page of it anew: enlarging 8 frames of
    32x32 by DAT-light met 1.3 million page faults, 0.18 million with this, and took 1.5 s, then 1.04, at the same peak.
    """
    adjust = getattr(ctypes.CDLL(None), "mallopt", None)
    if adjust is not None:
        adjust(_MMAP_THRESHOLD, _LARGEST_KEPT)
        adjust(_TRIM_THRESHOLD, _KEPT)


@cache
def _trim() -> Callable[[int], int] | None:
    """The C library's own way; other libraries than glibc have none, and return memory by themselves."""
    return getattr(ctypes.CDLL(None), "malloc_trim", None)


def return_free_memory() -> None:
    """Return freed memory to the system, and to others that use the GPU.

    glibc keeps what the activations of a pass took, in pieces that the next pass does not fit into: after a ViViT for
    32x112x112 clips was loaded, 3.0 GB stayed with a process that held 1.2.
    """
    trim = _trim()
    if trim is not None:
        trim(0)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()
