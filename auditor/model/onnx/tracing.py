"""Tracing an ONNX graph: run once on one input, written down as the plan of what has to be run again."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from auditor.errors import NotAuditable
from auditor.model.onnx.control_flow import Value, control_flow
from auditor.model.onnx.frozen_batch import Moved, widen, widened_shape
from auditor.model.onnx.graph import Graph, Node, dropped
from auditor.model.onnx.operators import Function, Operators, UnsupportedError, integers
from auditor.model.onnx.operators.custom import UserOperatorError
from auditor.model.onnx.operators.registry import MOST_NUMBERS
from auditor.model.onnx.plan import Call, Plan, compiled
from auditor.model.onnx.resource_limits import ResourceLimits
from auditor.model.onnx.support import CONTROL
from auditor.text import printable

ALIAS = ("Identity", "Dropout")
NAMES_PER_CALL = 50  # entering a graph copies the names around it: so many take the time of one operation


class NodeError(Exception):
    """A node could not run; the text names it and says why."""


class Traced(Protocol):
    """The network that is traced: its graph, its tensors as (name, table, key), and its modes."""

    graph: Graph
    operators: Operators
    slots: list[tuple[str, dict[str, Any], str]]
    extent: tuple[int, int]
    traced_batch: int | None
    batch_statistics: bool
    drop: bool

    def noted(self, node: Node, normalise: Function) -> Function:
        """Return a batch normalisation that also notes what it reads."""
        ...


class Tracer:
    """Runs the graph once and writes down what has to be run again."""

    def __init__(self, module: Traced, x: Tensor, moved: Sequence[Moved] | None) -> None:
        self.module, self.x, self.device = module, x, x.device
        self.dtype = x.dtype
        self.steps: list[Call] = []
        self.registers: list[Any] = []
        self.reshapes: list[Moved] = []
        self.moved = moved
        self.demand = ResourceLimits(x.numel(), *module.extent)
        # By identity of the constant; the constant is kept beside its register, or its identity could be reused.
        self.bound: dict[tuple[int, bool], tuple[int, Any]] = {}

    def plan(self) -> tuple[Plan, Any]:
        """Return the plan, and the output for the input it was traced with."""
        graph = self.module.graph
        scope: dict[str, Value] = {}
        self._constants(graph, scope)
        for name, table, leaf in self.module.slots:
            scope[name] = Value(table[leaf].detach(), False, self._register())
        entry = self._register()
        scope[graph.inputs[0]] = Value(self.x, False, entry)
        with torch.no_grad(), self.demand:
            self._graph(graph, scope, keep=set(graph.outputs))
        result = scope[graph.outputs[0]]
        output = self.bind(result, False)
        value = self.registers[output] if result.static else result.value
        return compiled(self.steps, self.registers, entry, output), value

    def _register(self, value: Any = None) -> int:
        self.registers.append(value)
        return len(self.registers) - 1

    def _constants(self, graph: Graph, scope: dict[str, Value]) -> None:
        for name, value in graph.constants.items():
            scope[name] = Value(value, True)

    def _graph(self, graph: Graph, scope: dict[str, Value], keep: set[str]) -> None:
        uses = Counter(name for node in graph.nodes for name in _names(node))
        for node in graph.nodes:
            try:
                self._node(node, scope)
            except (NodeError, NotAuditable):
                raise
            except (
                RuntimeError,
                ValueError,
                LookupError,
                TypeError,
                AttributeError,
                ArithmeticError,
                MemoryError,
                UnsupportedError,
                UserOperatorError,
            ) as error:
                where = printable(node.name or next(iter(node.outputs), "unnamed"))
                reason = printable(str(error).split("\n")[0] or type(error).__name__, 200)
                raise NodeError(f"{printable(node.operator)} '{where}' failed: {reason}") from error
            for name in _names(node):
                uses[name] -= 1
                if not uses[name] and name not in keep and name in scope and not scope[name].static:
                    scope[name] = Value(None, False, scope[name].register)

    def _node(self, node: Node, scope: dict[str, Value]) -> None:
        self.demand.spend(1)
        absent = Value(None, True)
        operands = [scope[name] if name else absent for name in node.inputs]
        if node.operator in CONTROL and not node.domain:
            results = control_flow(self, node, operands, scope)
        elif node.operator == "Dropout" and self.module.drop and not operands[0].static:
            results = self._dropout(node, operands[0])
        elif node.operator in ALIAS and not node.domain:
            results = [replace(operands[0])]
            if len(node.outputs) > 1:  # Dropout is off: its mask keeps everything
                results.append(Value(torch.ones(operands[0].value.shape, dtype=torch.bool), True))
        else:
            results = self._operation(node, operands)
        for name, result in zip(node.outputs, results, strict=False):
            if name:
                scope[name] = result

    def _dropout(self, node: Node, operand: Value) -> list[Value]:
        share = dropped(node, self.module.graph)
        return self.emit(lambda x: F.dropout(x, share), [self.bind(operand, False)], [operand.value])

    def _operation(self, node: Node, operands: list[Value]) -> list[Value]:
        operator = self.module.operators.get((node.domain, node.operator))
        if operator is None:
            raise UnsupportedError("it has no implementation here")
        if node.operator == "BatchNormalization":
            mode = {**node.attributes, "training_mode": int(self.module.batch_statistics)}
            node = replace(node, attributes=mode)
        function = operator.build(node)
        if node.operator == "BatchNormalization":
            function = self.module.noted(node, function)
        decisive = operands[:1] if node.operator in ("CastLike", "EyeLike") else operands
        if node.operator in ("Shape", "Size") or all(operand.static for operand in decisive):
            result = function(*[operand.value for operand in operands])
            return [Value(value, True) for value in _several(result)]
        if node.operator == "NonZero" or (node.operator == "Compress" and not operands[1].static):
            raise UnsupportedError("its output's shape depends on the clip")
        if node.operator == "Cast":
            function = self._as_wide(function)
        if node.operator == "Reshape":
            function, operands = self._reshape(node, function, operands)
        if node.operator == "Concat" and self.moved is not None:
            operands = self._level(node, operands)
        reads = []
        for slot, operand in enumerate(operands):
            reads.append(self.bind(operand, slot in operator.numbers))
        return self.emit(function, reads, [operand.value for operand in operands])

    def _as_wide(self, cast: Function) -> Function:
        """Return a cast that makes floats of the clip's width, so that a float64 copy of the network stays float64."""
        dtype = self.dtype

        def run(x: Tensor) -> Tensor:
            made: Tensor = cast(x)
            return made.to(dtype) if made.is_floating_point() and dtype.is_floating_point else made

        return run

    def emit(self, function: Function, reads: Sequence[int], values: Sequence[Any]) -> list[Value]:
        """Run a function and write it into the plan."""
        placed = [self.registers[r] if self.registers[r] is not None else v for r, v in zip(reads, values, strict=True)]
        results = _several(function(*placed))
        writes = [self._register() for _ in results]
        self.steps.append((function, tuple(reads), tuple(writes)))
        return [Value(value, False, register) for value, register in zip(results, writes, strict=True)]

    def bind(self, operand: Value, as_numbers: bool) -> int:
        """Return the register of an operand; a constant gets one, on the device and in the dtype of the clip."""
        if operand.register is not None:
            return operand.register
        value = operand.value
        key = (id(value), as_numbers)
        if key in self.bound:
            return self.bound[key][0]
        if isinstance(value, Tensor):
            if as_numbers and value.numel() > MOST_NUMBERS:
                raise UnsupportedError(f"a shape, axes or sizes of {value.numel()} numbers")
            if as_numbers:
                placed: Any = tuple(value.reshape(-1).tolist())
            elif value.is_floating_point():
                placed = value.to(device=self.device, dtype=self.dtype)
            else:
                placed = value.to(self.device)
        else:
            placed = value
        register = self._register(placed)
        self.bound[key] = (register, value)
        return register

    def _reshape(self, node: Node, function: Function, operands: list[Value]) -> tuple[Function, list[Value]]:
        """Record what a Reshape did at the traced batch, or make it do the same at another."""
        x, target = operands
        if not target.static:
            return function, operands
        shape = integers(target.value) or ()
        if self.moved is None:
            after = tuple(function(x.value, shape).shape)
            self.reshapes.append(Moved(tuple(x.value.shape), shape, after))
        else:
            before = self.moved[len(self.reshapes)]
            self.reshapes.append(before)
            new = widened_shape(before, tuple(x.value.shape), shape, self.module.traced_batch or 1)
            if new is not None:
                return (lambda value, numbers: value.reshape(numbers)), [x, Value(torch.tensor(new), True)]
        return function, operands

    def _level(self, node: Node, operands: list[Value]) -> list[Value]:
        """Repeat parts of a Concat that the file holds for the traced batch only (class tokens)."""
        shapes = [tuple(operand.value.shape) for operand in operands]
        wanted = widen(shapes, node.attributes["axis"])
        levelled = []
        for operand, shape, target in zip(operands, shapes, wanted, strict=True):
            if shape == target:
                levelled.append(operand)
            elif operand.static:
                levelled.append(Value(operand.value.expand(target), True))
            else:
                levelled += self.emit(_expander(target), [self.bind(operand, False)], [operand.value])
        return levelled

    def call(self, graph: Graph, arguments: Sequence[Value], scope: dict[str, Value]) -> list[Value]:
        """Trace a nested graph; it sees the names around it."""
        self.demand.spend(1 + (len(scope) + len(graph.constants)) // NAMES_PER_CALL)
        inner = dict(scope)
        self._constants(graph, inner)
        for name, table, _ in self.module.slots:  # a parameter may live inside a branch
            if name in graph.constants and table is not None:
                inner[name] = scope[name]
        inner.update(zip(graph.inputs, arguments, strict=False))
        captured = set(graph.outputs) | set(scope) | set(graph.inputs)
        self._graph(graph, inner, keep=captured)
        return [replace(inner[name]) for name in graph.outputs]


def _several(result: Any) -> list[Any]:
    return list(result) if isinstance(result, tuple) else [result]


def _names(node: Node) -> set[str]:
    """Return the values a node reads, those that its subgraphs capture included."""
    names = {name for name in node.inputs if name}
    for graph in node.subgraphs():
        names.update(name for child in graph.walk() for name in child.inputs if name)
        names.update(graph.outputs)
    return names


def _expander(shape: tuple[int, ...]) -> Callable[[Tensor], Tensor]:
    return lambda x: x.expand(shape)
