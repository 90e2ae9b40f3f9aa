"""A few of a hidden layer's units instead of all: they hold the same span and cost a fraction."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn import functional as F

from auditor.attack.recursion.call_graph import Call, CallGraph

# Units one by one give what all of them give, to rounding.
_SAME = 1e-9


def sliced(graph: CallGraph, value: int, count: int) -> tuple[Int[Tensor, " unit"] | None, Mapping[int, Call]]:
    """Return some units of a value, and the calls, by place, that work out those alone; None where units mix.

    The value has to follow from one Linear layer by calls that take unit by unit.
    """
    shape = graph.shapes[value]
    path: list[int] = []
    left, seen = [value], set()
    while left:
        place = graph.producer.get(left.pop())
        if place is None or place in seen:
            continue
        seen.add(place)
        call = graph.calls[place]
        if any(graph.shapes[n] != shape for n in call.outputs) or _names_sizes(call, shape[-1]):
            return None, {}
        path.append(place)
        if call.weight is None:
            left += call.inputs
    first = min(path)
    if sum(graph.calls[p].weight is not None for p in path) != 1 or graph.calls[first].weight is None:
        return None, {}
    generator = torch.Generator().manual_seed(0)
    units = torch.randperm(shape[-1], generator=generator)[:count].sort().values
    calls = {place: _cut(graph.calls[place], shape[-1], units) for place in path}
    start = graph.calls[first].inputs[0]
    values = {start: torch.randn(graph.shapes[start], generator=generator, dtype=torch.float64)}
    some = dict(values)
    with torch.no_grad():
        for place in sorted(path):
            values.update(zip(graph.calls[place].outputs, graph.calls[place](values), strict=True))
            some.update(zip(calls[place].outputs, calls[place](some), strict=True))
    whole = values[value][..., units]
    same = whole.shape == some[value].shape and float((whole - some[value]).norm()) <= _SAME * float(whole.norm())
    return (units, calls) if same else (None, {})


def _names_sizes(call: Call, width: int) -> bool:
    """Tell whether a call is told a shape, which would not fit fewer units."""
    given = (*call.args, *call.kwargs.values())
    return any(isinstance(a, (tuple, list)) or (isinstance(a, int) and a == width) for a in given)


def _cut(call: Call, width: int, units: Tensor) -> Call:
    """Return the call with those constants cut to the units that have one entry or column for each."""

    def kept(value: Any) -> Any:
        if not isinstance(value, Tensor) or not value.dim():
            return value
        if call.function is F.linear and call.weight is not None:
            return value[units]
        return value[..., units] if value.shape[-1] == width else value

    return replace(call, args=tuple(kept(a) for a in call.args), kwargs={k: kept(a) for k, a in call.kwargs.items()})
