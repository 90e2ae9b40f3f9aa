"""How many threads a net deserves."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from auditor.records import Target

# Measured on two cores: at 8x32x32 and up to 0.3 million parameters a second thread saves at most 15% of a step on an
# idle machine, and on a busy one the two wait for each other and the same run takes up to twenty times as long.
_SMALL_CLIP = 50_000
_SMALL_NET = 2_000_000


def is_small(target: Target) -> bool:
    """Tell whether a net gains next to nothing from a second thread."""
    spec = target.input
    values = spec.frames * spec.channels * spec.height * spec.width
    return values <= _SMALL_CLIP and sum(p.numel() for p in target.parameters.values()) <= _SMALL_NET


@contextmanager
def threads_for(target: Target) -> Iterator[None]:
    """Run small nets on one thread; fixed by size and never by timing, so that results repeat."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if is_small(target) else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
