"""An order for frames that an update tells apart but does not put in order: each next to those most like it."""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations

import torch
from jaxtyping import Float
from torch import Tensor

from auditor.attack.recursion.descent_state import Partial
from auditor.attack.recursion.graph_descent import GraphDescent, descend_graph
from auditor.records import Clock, View

# Orders of a few places: 24 descents that end early.
_TRIED = 24
# Rounds of improving a path; measured: 20 frames settle in 3.
_ROUNDS = 20


def descend_in_order(view: View, clock: Clock) -> GraphDescent | str:
    """Descend (`descend_graph`); then put images that come in any order into one in which neighbours are alike.

    Where a 2-D net reads each frame alone and an average follows, every order of the frames gives the same update, so
    nothing but the clip's smoothness in time tells the order, and nothing at all which way time runs.
    """
    found = _with_places_tried(view, descend_graph(view, clock), clock)
    if isinstance(found, str) or len(found.loose) != 1 or not found.values:
        return found
    (axis,) = found.loose
    lowest = found.values[min(found.values)].movedim(axis, 0)
    return _reordered(found, axis, torch.tensor(path_of_least_change(lowest.flatten(1))))


def _with_places_tried(view: View, found: GraphDescent | str, clock: Clock) -> GraphDescent | str:
    """Try all orders of few places, where the next convolution reads across them: only one does not contradict it."""
    if isinstance(found, str) or not found.loose or not found.hidden:
        return found
    count = math.prod(found.graph.shapes[max(found.open)][a] for a in found.loose)
    if math.factorial(count) > _TRIED:
        return found
    tried = [descend_graph(view, clock, order) for order in permutations(range(count))]
    further = [t for t in tried if isinstance(t, GraphDescent) and len(t.residuals) > len(found.residuals)]
    return further[0] if len(further) == 1 else found


def path_of_least_change(rows: Float[Tensor, "image feature"]) -> Sequence[int]:
    """Return an order of rows with a short way from each to the next: the nearest neighbour, then 2-opt.

    The first of the result is less than the last, as of a path and its reverse only one is wanted.
    """
    distance = torch.cdist(rows.double()[None], rows.double()[None])[0]
    paths = [_improved(_greedy(distance, start), distance) for start in range(len(rows))]
    best = min(paths, key=lambda path: _length(path, distance))
    return best if best[0] <= best[-1] else best[::-1]


def _greedy(distance: Tensor, start: int) -> list[int]:
    path, left = [start], set(range(len(distance))) - {start}
    while left:
        path.append(min(left, key=lambda n: float(distance[path[-1], n])))
        left.remove(path[-1])
    return path


def _improved(path: list[int], distance: Tensor) -> list[int]:
    """Reverse pieces of a path as long as that shortens it."""
    for _ in range(_ROUNDS):
        before = path
        for i in range(len(path) - 1):
            for j in range(i + 2, len(path) + 1):
                turned = path[:i] + path[i:j][::-1] + path[j:]
                if _length(turned, distance) < _length(path, distance) * (1.0 - 1e-12):
                    path = turned
        if path == before:
            break
    return path


def _length(path: Sequence[int], distance: Tensor) -> float:
    at = torch.tensor(path)
    return float(distance[at[:-1], at[1:]].sum())


def _reordered(found: GraphDescent, axis: int, order: Tensor) -> GraphDescent:
    def moved(value: Tensor) -> Tensor:
        # Values above the average have no such axis.
        return value.index_select(axis, order) if value.shape[axis] == len(order) else value

    read = found.activation
    return replace(
        found,
        values={n: moved(v) for n, v in found.values.items()},
        open={n: moved(v) for n, v in found.open.items()},
        activation=None if read is None else replace(read, value=moved(read.value)),
        partial=None if found.partial is None else _partial(found, found.partial, axis, order),
    )


def _partial(found: GraphDescent, partial: Partial, axis: int, order: Tensor) -> Partial:
    solved, shape = partial.solved, found.graph.shapes[partial.value]
    rows = solved.projections.reshape(-1, shape[0], *shape[2:])
    # Rows lead, and channels, the axis after the first of a value, are not there.
    moved = rows.index_select(1 if axis == 0 else axis, order).reshape(solved.projections.shape)
    return replace(partial, solved=replace(solved, projections=moved))
