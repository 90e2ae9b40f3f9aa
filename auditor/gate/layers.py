"""Which layer of one model is which of another: through renames, insertions and removals."""

from collections.abc import Mapping, Sequence
from typing import Any

# What two layers share, weighed. Numbers of parameters and shapes say more than names: in nn.Sequential one insertion
# gives every later layer the name of another. An equal kind alone is weak, and still better than no match: a head that
# grew is the head.
_KIND, _SIZE, _NAME, _PART_OF_NAME, _SHAPE = 0.1, 3.0, 2.0, 1.0, 0.75
# Longer networks are aligned between layers that are unmistakable; this bounds the table to about a second.
_MOST_CELLS = 400_000

Layer = Mapping[str, Any]


def matched(old: Sequence[Layer], new: Sequence[Layer]) -> dict[str, str]:
    """Return the names of old layers by those of new ones: the alignment in forward order that shares most.

    Needleman and Wunsch (J. Mol. Biol. 48, 1970) without gap cost. Layers of different kinds never match.
    """
    if len(old) * len(new) > _MOST_CELLS:
        return _by_name(old, new)
    best = [[0.0] * (len(new) + 1) for _ in range(len(old) + 1)]
    shared = [[_shared(a, b) for b in new] for a in old]
    for i in range(len(old) - 1, -1, -1):
        for j in range(len(new) - 1, -1, -1):
            both = shared[i][j] + best[i + 1][j + 1] if shared[i][j] else 0.0
            best[i][j] = max(both, best[i + 1][j], best[i][j + 1])
    return _path(old, new, shared, best)


def _path(
    old: Sequence[Layer], new: Sequence[Layer], shared: list[list[float]], best: list[list[float]]
) -> dict[str, str]:
    found: dict[str, str] = {}
    i = j = 0
    while i < len(old) and j < len(new):
        if shared[i][j] and best[i][j] == shared[i][j] + best[i + 1][j + 1]:
            found[new[j]["name"]] = old[i]["name"]
            i, j = i + 1, j + 1
        elif best[i][j] == best[i + 1][j]:
            i += 1
        else:
            j += 1
    return found


def _shared(a: Layer, b: Layer) -> float:
    """How much two layers have in common; 0 where they cannot be the same."""
    if a["kind"] != b["kind"]:
        return 0.0
    alike = (
        _SIZE * (a["elements"] == b["elements"])
        + _NAME * (a["name"] == b["name"])
        + _PART_OF_NAME * (_last(a) == _last(b) and not _last(a).isdigit())
    )
    if not alike:
        return _KIND  # equal shapes say little by themselves: several such pairs must not outweigh one that fits
    return _KIND + alike + _SHAPE * ((a["input_shape"] == b["input_shape"]) + (a["output_shape"] == b["output_shape"]))


def _last(layer: Layer) -> str:
    return str(layer["name"]).rpartition(".")[2]


def _by_name(old: Sequence[Layer], new: Sequence[Layer]) -> dict[str, str]:
    kinds = {layer["name"]: layer["kind"] for layer in old}
    return {layer["name"]: layer["name"] for layer in new if kinds.get(layer["name"]) == layer["kind"]}
