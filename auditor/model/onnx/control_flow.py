"""If, Loop and Scan: unrolled while tracing, by conditions and counts that do not depend on the clip."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from auditor.model.onnx.graph import Graph, Node
from auditor.model.onnx.operators import Function, UnsupportedError

LONGEST_LOOP = 10_000


@dataclass(slots=True, eq=False)
class Value:
    """A value while tracing: its register (None until it needs one), and whether it is the same for every clip."""

    value: Any
    static: bool
    register: int | None = None


class Emitter(Protocol):
    """What traces a graph: runs nested graphs, and writes calls into the plan."""

    def call(self, graph: Graph, arguments: Sequence[Value], scope: dict[str, Value]) -> list[Value]:
        """Trace a nested graph; it sees the names around it."""
        ...

    def bind(self, operand: Value, as_numbers: bool) -> int:
        """Return the register of an operand."""
        ...

    def emit(self, function: Function, reads: Sequence[int], values: Sequence[Any]) -> list[Value]:
        """Run a function and write it into the plan."""
        ...


def control_flow(tracer: Emitter, node: Node, operands: list[Value], scope: dict[str, Value]) -> list[Value]:
    """Return the outputs of a node that runs graphs, where the choice and the number of rounds are known in tracing."""
    if node.operator == "If":
        condition = operands[0]
        if not condition.static:
            raise UnsupportedError("its condition depends on the clip")
        branch = node.attributes["then_branch" if bool(condition.value) else "else_branch"]
        return tracer.call(branch, [], scope)
    return _loop(tracer, node, operands, scope) if node.operator == "Loop" else _scan(tracer, node, operands, scope)


def _loop(tracer: Emitter, node: Node, operands: list[Value], scope: dict[str, Value]) -> list[Value]:
    body: Graph = node.attributes["body"]
    count, going, *carried = operands
    if not count.static or not going.static:
        raise UnsupportedError("its number of rounds depends on the clip")
    rounds = math.inf if count.value is None else int(count.value)
    alive = True if going.value is None else bool(going.value)
    collected: list[list[Value]] = [[] for _ in body.outputs[1 + len(carried) :]]
    index = 0
    while alive and index < rounds:
        if index >= LONGEST_LOOP:
            raise UnsupportedError(f"it runs for more than {LONGEST_LOOP} rounds")
        results = tracer.call(
            body, [Value(torch.tensor(index), True), Value(torch.tensor(True), True), *carried], scope
        )
        if not results[0].static:
            raise UnsupportedError("its condition depends on the clip")
        alive = bool(results[0].value)
        carried = results[1 : 1 + len(carried)]
        for column, value in zip(collected, results[1 + len(carried) :], strict=True):
            column.append(value)
        index += 1
    return [*carried, *(_stack(tracer, column, 0) for column in collected)]


def _scan(tracer: Emitter, node: Node, operands: list[Value], scope: dict[str, Value]) -> list[Value]:
    body: Graph = node.attributes["body"]
    sequences = node.attributes["num_scan_inputs"]
    states, scanned = operands[: len(operands) - sequences], operands[len(operands) - sequences :]
    in_axes = node.attributes.get("scan_input_axes") or (0,) * sequences
    in_backwards = node.attributes.get("scan_input_directions") or (0,) * sequences
    n_out = len(body.outputs) - len(states)
    out_axes = node.attributes.get("scan_output_axes") or (0,) * n_out
    out_backwards = node.attributes.get("scan_output_directions") or (0,) * n_out
    length = scanned[0].value.shape[in_axes[0]]
    collected: list[list[Value]] = [[] for _ in range(n_out)]
    for index in range(length):
        slices = []
        for sequence, axis, backwards in zip(scanned, in_axes, in_backwards, strict=True):
            cut = _selector(axis, length - 1 - index if backwards else index)
            if sequence.static:
                slices.append(Value(cut(sequence.value), True))
            else:
                slices += tracer.emit(cut, [tracer.bind(sequence, False)], [sequence.value])
        results = tracer.call(body, [*states, *slices], scope)
        states = results[: len(states)]
        for column, value in zip(collected, results[len(states) :], strict=True):
            column.append(value)
    stacked = [
        _stack(tracer, list(reversed(column)) if backwards else column, axis)
        for column, axis, backwards in zip(collected, out_axes, out_backwards, strict=True)
    ]
    return [*states, *stacked]


def _stack(tracer: Emitter, column: Sequence[Value], axis: int) -> Value:
    if all(value.static for value in column):
        return Value(torch.stack([value.value for value in column], axis), True)
    reads = [tracer.bind(value, False) for value in column]
    return tracer.emit(lambda *rows: torch.stack(rows, axis), reads, [value.value for value in column])[0]


def _selector(axis: int, index: int) -> Callable[[Tensor], Tensor]:
    return lambda x: x.select(axis, index)
