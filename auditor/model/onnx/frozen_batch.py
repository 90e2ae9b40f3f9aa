"""Releasing a batch size that an exporter froze into the shapes of a graph.

The batch axis needs no symbolic propagation: a Reshape is seen once at the traced batch and once at another, and the
axis of its input that grew is the batch. Since the batch is the outermost part of that axis, it is known where it goes.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Moved(NamedTuple):
    """What a Reshape did at the traced batch: shape before, constant target, shape after."""

    before: tuple[int, ...]
    target: tuple[int, ...]
    after: tuple[int, ...]


def widened_shape(moved: Moved, now: tuple[int, ...], target: tuple[int, ...], batch: int) -> tuple[int, ...] | None:
    """Return the shape that a Reshape must give at another batch size; None when its own target is right.

    `batch` is the size the file was traced at.

    >>> widened_shape(Moved((1, 8, 4, 4), (1, 128), (1, 128)), (2, 8, 4, 4), (1, 128), 1)
    (2, 128)
    >>> widened_shape(Moved((5, 1, 16), (5, 4, 4), (5, 4, 4)), (5, 3, 16), (5, 4, 4), 1)
    (5, 12, 4)
    >>> widened_shape(Moved((5, 1, 2, 8), (5, 16), (5, 16)), (5, 3, 2, 8), (5, 16), 1)
    (15, 16)
    >>> widened_shape(Moved((5, 16), (5, 1, 16), (5, 1, 16)), (15, 16), (5, 1, 16), 1)
    (5, 3, 16)
    """
    if target != moved.target or len(now) != len(moved.before):
        return None  # the target was computed from the input's shape: it already knows the batch
    grown = [axis for axis, (old, new) in enumerate(zip(moved.before, now, strict=True)) if old != new]
    if len(grown) != 1:
        return None
    axis = _destination(moved, grown[0], batch)
    size = moved.after[axis] * now[grown[0]]
    if size % moved.before[grown[0]]:
        return None
    return (*moved.after[:axis], size // moved.before[grown[0]], *moved.after[axis + 1 :])


def _destination(moved: Moved, axis: int, batch: int) -> int:
    """Return the axis of the result that holds the batch."""
    before, after = moved.before, moved.after
    head = 0
    while head < min(axis, len(after)) and before[head] == after[head]:
        head += 1
    tail = 0
    while tail < min(len(before) - axis - 1, len(after) - head) and before[-1 - tail] == after[-1 - tail] != 1:
        tail += 1
    between = range(head, len(after) - tail)
    outer = math.prod(before[head:axis])
    alone = [i for i in between if after[i] == batch]
    at_its_depth = [i for i in alone if math.prod(after[head:i]) == outer]
    if at_its_depth or (alone and batch == 1):
        return (at_its_depth or alone)[0]
    for i in between:
        if math.prod(after[head : i + 1]) > outer:
            # On the border of two axes the batch joins the left one if the right one is the last: features stay whole.
            last = i == len(after) - 1 and i > 0 and math.prod(after[head:i]) == outer
            return i - 1 if last else i
    return between[-1] if between else max(head - 1, 0)


def widen(shapes: Sequence[tuple[int, ...]], axis: int) -> list[tuple[int, ...]]:
    """Return the shapes of the parts of a Concat with extents of one stretched to what the other parts have.

    >>> widen([(1, 1, 16), (2, 9, 16)], 1)
    [(2, 1, 16), (2, 9, 16)]
    """
    if len({len(shape) for shape in shapes}) != 1:
        return list(shapes)
    rank = len(shapes[0])
    most = [max(shape[i] for shape in shapes) for i in range(rank)]
    joined = axis % rank
    return [
        tuple(most[i] if i != joined and extent == 1 else extent for i, extent in enumerate(shape)) for shape in shapes
    ]


def in_parts(run: Callable[[Tensor], Tensor], x: Tensor, size: int) -> Tensor:
    """Run a batch in parts of exactly `size`, the last one filled up with copies, and join the results."""
    outputs = []
    for start in range(0, x.shape[0], size):
        part = x[start : start + size]
        missing = size - part.shape[0]
        if missing:
            part = torch.cat([part, part[-1:].expand(missing, *part.shape[1:])])
        output = run(part)
        outputs.append(output[: size - missing] if missing else output)
    return torch.cat(outputs)
