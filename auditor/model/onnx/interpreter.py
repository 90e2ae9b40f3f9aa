"""An ONNX graph as a torch module: traced once per input shape into a flat plan, then run thousands of times.

Everything that depends on shapes and constants alone (the arithmetic that exporters write around every Reshape, the
conditions of If, the counts of Loop) is computed while tracing; the plan holds only what depends on the clip or on a
parameter. Every function in it is differentiable twice.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from auditor.errors import NotAuditable
from auditor.model.onnx.frozen_batch import Moved, widen, widened_shape
from auditor.model.onnx.graph import Graph, Node
from auditor.model.onnx.operators import OPERATORS, Function, Operators, UnsupportedError, integers
from auditor.model.onnx.operators.custom import UserOperatorError
from auditor.model.onnx.operators.registry import MOST_NUMBERS
from auditor.model.onnx.resource_limits import ResourceLimits
from auditor.model.onnx.support import CONTROL
from auditor.model.onnx.trainable_constants import Roles
from auditor.records import NormInput
from auditor.text import printable

ALIAS = ("Identity", "Dropout")
LONGEST_LOOP = 10_000
DEEPEST_NAME = 64  # torch walks nested modules by recursion
NAMES_PER_CALL = 50  # entering a graph copies the names around it: so many take the time of one operation
WAYS_FORWARD = (
    "give the model as a PyTorch factory (path/file.py:factory), or export it again with "
    "torch.onnx.export(..., dynamo=True, optimize=False)"
)


class NodeError(Exception):
    """A node could not run; the text names it and says why."""


class PlanStep(NamedTuple):
    """One call of the plan: registers to read, registers to write, registers that nobody reads again."""

    function: Function
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    dead: tuple[int, ...]


class Plan(NamedTuple):
    """What runs for one input shape; `registers` holds the constants, None elsewhere."""

    steps: tuple[PlanStep, ...]
    registers: list[Any]
    input: int
    output: int


@dataclass(slots=True, eq=False)
class _Value:
    """A value while tracing: its register (None until it needs one), and whether it is the same for every clip."""

    value: Any
    static: bool
    register: int | None = None


class _Names(nn.Module):
    """One part of a dotted name: holds tensors, has no mode."""

    def train(self, mode: bool = True) -> "_Names":
        """Do nothing, because `training` may be the name of a tensor."""
        return self


class OnnxModule(nn.Module):
    """The network of an ONNX file, with parameters under the names that the file gives them.

    Parameters
    ----------
    graph, roles
        The decoded graph, and which of its constants are parameters and statistics.
    traced_batch
        The batch size that the file fixes, or None when it leaves the batch open. Where constants of the graph hold
        that size, other batch sizes are read from what the same node did at the traced size.
    operators
        What the nodes mean: ours, and those that a user added.
    """

    def __init__(
        self, graph: Graph, roles: Roles, traced_batch: int | None = None, operators: Operators = OPERATORS
    ) -> None:
        super().__init__()
        self.operators = operators
        self.graph = graph
        self.readers = roles.readers
        self.traced_batch = traced_batch
        self.clip_by_clip = False
        self.batch_statistics = False
        self.drop = False
        self.drops = sum(dropped(node, graph) > 0 for node in graph.walk())
        self.norm_inputs: list[NormInput] | None = None  # filled while somebody collects statistics
        self._norms = Counter(
            node.inputs[3] for node in graph.walk() if node.operator == "BatchNormalization" and len(node.inputs) > 3
        )
        graphs = [graph, *(inner for node in graph.walk() for inner in node.subgraphs())]
        weights = sum(
            value.numel() for inner in graphs for value in inner.constants.values() if isinstance(value, Tensor)
        )
        self.extent = weights, sum(len(inner.nodes) for inner in graphs)
        self._plans: dict[Any, Plan] = {}
        self._reference: list[Moved] | None = None  # what every Reshape did at the traced batch
        self._slots: list[tuple[str, dict[str, Any], str]] = []
        for name, value in roles.parameters.items():
            self._keep(name, nn.Parameter(value))  # not a copy: a graph makes one module, and weights are large
        for name, value in roles.statistics.items():
            self._keep(name, value.clone())

    def _keep(self, name: str, value: Tensor) -> None:
        """Register a tensor so that `named_parameters` spells it as the file does, dots included."""
        owner: nn.Module = self
        parts = name.split(".", DEEPEST_NAME + 1)
        *path, leaf = parts if all(parts) and len(parts) <= DEEPEST_NAME else [name]
        if not path and leaf == "training":  # assigned by nn.Module.train, so it must not be a parameter of this module
            path = [""]
        for part in path:
            # Written straight into the tables: a file may use any name, also one that nn.Module has for itself.
            child = owner._modules.setdefault(part, _Names())
            assert child is not None
            owner = child
        table: dict[str, Any] = owner._parameters if isinstance(value, nn.Parameter) else owner._buffers
        table[leaf] = value
        self._slots.append((name, table, leaf))

    def __deepcopy__(self, memo: dict[int, Any]) -> "OnnxModule":
        roles = Roles(
            {
                name: table[leaf].detach().clone()
                for name, table, leaf in self._slots
                if isinstance(table[leaf], nn.Parameter)
            },
            {name: table[leaf] for name, table, leaf in self._slots if not isinstance(table[leaf], nn.Parameter)},
            self.readers,
        )
        copy = OnnxModule(self.graph, roles, self.traced_batch, self.operators)
        copy.clip_by_clip, copy.batch_statistics = self.clip_by_clip, self.batch_statistics
        copy.drop = self.drop
        for own, theirs in zip(copy.parameters(), self.parameters(), strict=True):
            own.requires_grad_(theirs.requires_grad)
        return copy

    def noted(self, node: Node, normalise: Function) -> Function:
        """Return a batch normalisation that also notes what it reads, while somebody collects statistics."""
        mean_name, variance_name = node.inputs[3:5]
        if self._norms[mean_name] > 1:  # exporters merge equal initializers, but every layer has buffers of its own
            mean_name, variance_name = (f"{name} ({node.outputs[0]})" for name in node.inputs[3:5])
        # In the operator's definition momentum weighs the old value, and the variance counts n values.
        rate = 1.0 - float(node.attributes.get("momentum", 0.9))

        def run(x: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, variance: Tensor) -> Any:
            if self.norm_inputs is not None:
                self.norm_inputs.append(
                    NormInput(
                        site=node.outputs[0],
                        mean=mean_name,
                        variance=variance_name,
                        old_mean=mean,
                        old_variance=variance,
                        rate=rate,
                        unbiased=False,
                        input=x,
                    )
                )
            return normalise(x, scale, shift, mean, variance)

        return run

    def forget(self) -> None:
        """Drop every plan, because a setting that plans depend on has changed."""
        self._plans.clear()
        self._reference = None

    def forward(self, x: Tensor) -> Any:
        """Run the graph on one batch in the file's own layout."""
        size = self.traced_batch
        if self.clip_by_clip and size and x.shape[0] != size:
            return in_parts(self._run, x, size)
        return self._run(x)

    def _run(self, x: Tensor) -> Any:
        key = (x.shape, x.dtype, x.device, self.batch_statistics, self.drop)
        plan = self._plans.get(key)
        if plan is None:
            # Tracing runs the graph once more: that must neither be noted nor cost the masks about to be drawn.
            noted, self.norm_inputs = self.norm_inputs, None
            with torch.random.fork_rng(devices=[x.device] if x.is_cuda else [], enabled=self.drop):
                plan, result = self._trace(x)
            self._plans[key] = plan
            self.norm_inputs = noted
            if not torch.is_grad_enabled() and noted is None:
                return result
        registers = plan.registers.copy()
        for i, (_, table, leaf) in enumerate(self._slots):
            registers[i] = table[leaf]
        registers[plan.input] = x
        for function, reads, writes, dead in plan.steps:
            result = function(*[registers[i] for i in reads])
            if isinstance(result, tuple):
                for register, value in zip(writes, result, strict=False):
                    registers[register] = value
            else:
                registers[writes[0]] = result
            for register in dead:
                registers[register] = None
        return registers[plan.output]

    def _trace(self, x: Tensor) -> tuple[Plan, Any]:
        size, x = self.traced_batch, x.detach()
        if size is None or self.clip_by_clip:
            return _Tracer(self, x, None).plan()
        if x.shape[0] != size and self._reference is None:
            self._trace(x[:1].expand(size, *x.shape[1:]))
        tracer = _Tracer(self, x, None if x.shape[0] == size else self._reference)
        traced = tracer.plan()
        if x.shape[0] == size:
            self._reference = tracer.reshapes
        return traced


def dropped(node: Node, graph: Graph) -> float:
    """Return the share of values that a Dropout node drops in training; 0 for any other node."""
    if node.operator != "Dropout" or node.domain:
        return 0.0
    ratio = graph.constants.get(node.inputs[1]) if len(node.inputs) > 1 and node.inputs[1] else None
    ratio = node.attributes.get("ratio", ratio)  # an attribute up to opset 11
    try:
        return 0.5 if ratio is None else float(ratio)
    except (TypeError, ValueError, RuntimeError) as error:
        raise NotAuditable(
            f"Dropout '{printable(node.name)}' has a ratio that is no number", "export the model again"
        ) from error


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


class _Tracer:
    """Runs the graph once and writes down what has to be run again."""

    def __init__(self, module: OnnxModule, x: Tensor, moved: Sequence[Moved] | None) -> None:
        self.module, self.x, self.device = module, x, x.device
        self.dtype = x.dtype
        self.steps: list[tuple[Function, tuple[int, ...], tuple[int, ...]]] = []
        self.registers: list[Any] = []
        self.reshapes: list[Moved] = []
        self.moved = moved
        self.demand = ResourceLimits(x.numel(), *module.extent)
        # By identity of the constant; the constant is kept beside its register, or its identity could be reused.
        self.bound: dict[tuple[int, bool], tuple[int, Any]] = {}

    def plan(self) -> tuple[Plan, Any]:
        """Return the plan, and the output for the input it was traced with."""
        graph = self.module.graph
        scope: dict[str, _Value] = {}
        self._constants(graph, scope)
        for name, table, leaf in self.module._slots:
            scope[name] = _Value(table[leaf].detach(), False, self._register())
        entry = self._register()
        scope[graph.inputs[0]] = _Value(self.x, False, entry)
        with torch.no_grad(), self.demand:
            self._graph(graph, scope, keep=set(graph.outputs))
        result = scope[graph.outputs[0]]
        output = self._bind(result, False)
        last: dict[int, int] = {}
        for index, (_, reads, writes) in enumerate(self.steps):
            for register in (*reads, *writes):
                last[register] = index
        needed = {output}
        kept = []
        for index in reversed(range(len(self.steps))):
            function, reads, writes = self.steps[index]
            if needed.isdisjoint(writes):
                continue
            # Constants stay in the template; everything else is dropped as soon as its last reader has run.
            dead = tuple({r for r in (*reads, *writes) if r not in needed and self.registers[r] is None})
            needed.update(reads)
            kept.append(PlanStep(function, reads, writes, tuple(r for r in dead if r != output)))
        value = self.registers[output] if result.static else result.value
        return Plan(tuple(reversed(kept)), self.registers, entry, output), value

    def _register(self, value: Any = None) -> int:
        self.registers.append(value)
        return len(self.registers) - 1

    def _constants(self, graph: Graph, scope: dict[str, _Value]) -> None:
        for name, value in graph.constants.items():
            scope[name] = _Value(value, True)

    def _graph(self, graph: Graph, scope: dict[str, _Value], keep: set[str]) -> None:
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
                    scope[name] = _Value(None, False, scope[name].register)

    def _node(self, node: Node, scope: dict[str, _Value]) -> None:
        self.demand.spend(1)
        absent = _Value(None, True)
        operands = [scope[name] if name else absent for name in node.inputs]
        if node.operator in CONTROL and not node.domain:
            results = self._control(node, operands, scope)
        elif node.operator == "Dropout" and self.module.drop and not operands[0].static:
            results = self._dropout(node, operands[0])
        elif node.operator in ALIAS and not node.domain:
            results = [replace(operands[0])]
            if len(node.outputs) > 1:  # Dropout is off: its mask keeps everything
                results.append(_Value(torch.ones(operands[0].value.shape, dtype=torch.bool), True))
        else:
            results = self._operation(node, operands)
        for name, result in zip(node.outputs, results, strict=False):
            if name:
                scope[name] = result

    def _dropout(self, node: Node, operand: _Value) -> list[_Value]:
        share = dropped(node, self.module.graph)
        return self._emit(lambda x: F.dropout(x, share), [self._bind(operand, False)], [operand.value])

    def _operation(self, node: Node, operands: list[_Value]) -> list[_Value]:
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
            return [_Value(value, True) for value in _several(result)]
        if node.operator == "NonZero" or (node.operator == "Compress" and not operands[1].static):
            raise UnsupportedError("its output's shape depends on the clip")
        if node.operator == "Reshape":
            function, operands = self._reshape(node, function, operands)
        if node.operator == "Concat" and self.moved is not None:
            operands = self._level(node, operands)
        reads = []
        for slot, operand in enumerate(operands):
            reads.append(self._bind(operand, slot in operator.numbers))
        return self._emit(function, reads, [operand.value for operand in operands])

    def _emit(self, function: Function, reads: Sequence[int], values: Sequence[Any]) -> list[_Value]:
        placed = [self.registers[r] if self.registers[r] is not None else v for r, v in zip(reads, values, strict=True)]
        results = _several(function(*placed))
        writes = [self._register() for _ in results]
        self.steps.append((function, tuple(reads), tuple(writes)))
        return [_Value(value, False, register) for value, register in zip(results, writes, strict=True)]

    def _bind(self, operand: _Value, as_numbers: bool) -> int:
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

    def _reshape(self, node: Node, function: Function, operands: list[_Value]) -> tuple[Function, list[_Value]]:
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
                return (lambda value, numbers: value.reshape(numbers)), [x, _Value(torch.tensor(new), True)]
        return function, operands

    def _level(self, node: Node, operands: list[_Value]) -> list[_Value]:
        """Repeat parts of a Concat that the file holds for the traced batch only (class tokens)."""
        shapes = [tuple(operand.value.shape) for operand in operands]
        wanted = widen(shapes, node.attributes["axis"])
        levelled = []
        for operand, shape, target in zip(operands, shapes, wanted, strict=True):
            if shape == target:
                levelled.append(operand)
            elif operand.static:
                levelled.append(_Value(operand.value.expand(target), True))
            else:
                levelled += self._emit(_expander(target), [self._bind(operand, False)], [operand.value])
        return levelled

    def _control(self, node: Node, operands: list[_Value], scope: dict[str, _Value]) -> list[_Value]:
        if node.operator == "If":
            condition = operands[0]
            if not condition.static:
                raise UnsupportedError("its condition depends on the clip")
            branch = node.attributes["then_branch" if bool(condition.value) else "else_branch"]
            return self._call(branch, [], scope)
        return self._loop(node, operands, scope) if node.operator == "Loop" else self._scan(node, operands, scope)

    def _call(self, graph: Graph, arguments: Sequence[_Value], scope: dict[str, _Value]) -> list[_Value]:
        self.demand.spend(1 + (len(scope) + len(graph.constants)) // NAMES_PER_CALL)
        inner = dict(scope)
        self._constants(graph, inner)
        for name, table, _ in self.module._slots:  # a parameter may live inside a branch
            if name in graph.constants and table is not None:
                inner[name] = scope[name]
        inner.update(zip(graph.inputs, arguments, strict=False))
        captured = set(graph.outputs) | set(scope) | set(graph.inputs)
        self._graph(graph, inner, keep=captured)
        return [replace(inner[name]) for name in graph.outputs]

    def _loop(self, node: Node, operands: list[_Value], scope: dict[str, _Value]) -> list[_Value]:
        body: Graph = node.attributes["body"]
        count, going, *carried = operands
        if not count.static or not going.static:
            raise UnsupportedError("its number of rounds depends on the clip")
        rounds = math.inf if count.value is None else int(count.value)
        alive = True if going.value is None else bool(going.value)
        collected: list[list[_Value]] = [[] for _ in body.outputs[1 + len(carried) :]]
        index = 0
        while alive and index < rounds:
            if index >= LONGEST_LOOP:
                raise UnsupportedError(f"it runs for more than {LONGEST_LOOP} rounds")
            results = self._call(
                body, [_Value(torch.tensor(index), True), _Value(torch.tensor(True), True), *carried], scope
            )
            if not results[0].static:
                raise UnsupportedError("its condition depends on the clip")
            alive = bool(results[0].value)
            carried = results[1 : 1 + len(carried)]
            for column, value in zip(collected, results[1 + len(carried) :], strict=True):
                column.append(value)
            index += 1
        return [*carried, *(self._stack(column, 0) for column in collected)]

    def _scan(self, node: Node, operands: list[_Value], scope: dict[str, _Value]) -> list[_Value]:
        body: Graph = node.attributes["body"]
        sequences = node.attributes["num_scan_inputs"]
        states, scanned = operands[: len(operands) - sequences], operands[len(operands) - sequences :]
        in_axes = node.attributes.get("scan_input_axes") or (0,) * sequences
        in_backwards = node.attributes.get("scan_input_directions") or (0,) * sequences
        n_out = len(body.outputs) - len(states)
        out_axes = node.attributes.get("scan_output_axes") or (0,) * n_out
        out_backwards = node.attributes.get("scan_output_directions") or (0,) * n_out
        length = scanned[0].value.shape[in_axes[0]]
        collected: list[list[_Value]] = [[] for _ in range(n_out)]
        for index in range(length):
            slices = []
            for sequence, axis, backwards in zip(scanned, in_axes, in_backwards, strict=True):
                cut = _selector(axis, length - 1 - index if backwards else index)
                if sequence.static:
                    slices.append(_Value(cut(sequence.value), True))
                else:
                    slices += self._emit(cut, [self._bind(sequence, False)], [sequence.value])
            results = self._call(body, [*states, *slices], scope)
            states = results[: len(states)]
            for column, value in zip(collected, results[len(states) :], strict=True):
                column.append(value)
        stacked = [
            self._stack(list(reversed(column)) if backwards else column, axis)
            for column, axis, backwards in zip(collected, out_axes, out_backwards, strict=True)
        ]
        return [*states, *stacked]

    def _stack(self, column: Sequence[_Value], axis: int) -> _Value:
        if all(value.static for value in column):
            return _Value(torch.stack([value.value for value in column], axis), True)
        reads = [self._bind(value, False) for value in column]
        return self._emit(lambda *rows: torch.stack(rows, axis), reads, [value.value for value in column])[0]


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


def _selector(axis: int, index: int) -> Callable[[Tensor], Tensor]:
    return lambda x: x.select(axis, index)


def operator_counts(graph: Graph) -> Mapping[str, int]:
    """Return how often each operator occurs, most frequent first; nested graphs count too."""
    counts = Counter(f"{node.domain}.{node.operator}" if node.domain else node.operator for node in graph.walk())
    return {printable(name): count for name, count in counts.most_common()}
