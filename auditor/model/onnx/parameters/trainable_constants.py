"""Which constants of an ONNX graph clients train: the mapping from file to gradient that an audit stands on.

An ONNX file does not say which of its numbers are parameters. A float initializer is one when it reaches, through data
movement or arithmetic on constants alone, the weight slot of an operation, or an elementwise Add, Mul or Sub (position
embeddings, biases) or Concat (class tokens) whose other operand depends on the clip.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from auditor.errors import NotAuditable
from auditor.model.onnx.graph import Graph, Node
from auditor.model.onnx.loop_states import carried_unchanged, followed, varying_states
from auditor.model.onnx.parameters.constant_notes import accounting, constant_notes, unaccounted
from auditor.model.onnx.parameters.constants import (
    COMPUTED_BY_TORCHSCRIPT,
    PRECOMPUTED,
    SPELLED,
    is_filler,
    is_mask,
    is_per_channel,
    is_uniform,
    is_vector,
    never_trained,
)
from auditor.model.onnx.parameters.constants import INVENTED as INVENTED
from auditor.records import Unaccounted
from auditor.text import printable

WEIGHT_SLOTS: Mapping[str, tuple[int, ...]] = {
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "Gemm": (0, 1, 2),
    "MatMul": (0, 1),
    "Einsum": (0, 1, 2, 3),
    "BatchNormalization": (1, 2),
    "InstanceNormalization": (1, 2),
    "GroupNormalization": (1, 2),
    "LayerNormalization": (1, 2),
    "RMSNormalization": (1,),
    "GRU": (1, 2, 3, 5),
    "LSTM": (1, 2, 3, 5, 6, 7),
    "RNN": (1, 2, 3, 5),
    "PRelu": (1,),
    "Gather": (0,),
    "SequenceAt": (0,),
    "Attention": (0, 1, 2),
}
STATES: Mapping[str, tuple[int, ...]] = {"GRU": (5,), "LSTM": (5, 6), "RNN": (5,)}
ELEMENTWISE = ("Add", "Mul", "Sub", "Sum", "Where", "Div", "Pow", "Max", "Min", "ScatterND", "ScatterElements")
MOVEMENT = (
    "Identity", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Split", "Concat", "Expand",
    "Cast", "CastLike", "Gather", "GatherND", "GatherElements", "Tile", "Pad", "SplitToSequence", "SequenceAt",
    "ConcatFromSequence",
)  # fmt: skip
# What puts several values side by side.
COLLECTING = ("Concat", "SequenceConstruct", "SequenceInsert")
# What leaves pixels pixels: a scale, a shift, a rounding.
RESCALING = ("Add", "Sub", "Mul", "Div", "Round", "Floor", "Ceil", "Mod", "Clip", "BitShift", "BitwiseAnd")
# What is made of constants before the clip comes in: learned queries go through norms and products first.
COMPUTED = (
    "Add", "Sub", "Mul", "Div", "Sqrt", "Pow", "Exp", "ReduceL2", "ReduceSum", "ReduceMean", "ReduceSumSquare",
    "Reciprocal", "LpNormalization", "Tanh", "Sigmoid", "Neg", "Log", "Abs", "Sum", "Mean", "Max", "Min", "Sin", "Cos",
    "Relu", "Gelu", "Erf", "Swish", "HardSwish", "Softmax", "MatMul", "Gemm", "Einsum", "Conv", "Attention",
    "LayerNormalization", "RMSNormalization", "GroupNormalization", "InstanceNormalization", "Softplus", "Softsign",
    "HardSigmoid", "LeakyRelu", "Elu", "Mish", "LogSoftmax", "ScatterND", "ScatterElements",
)  # fmt: skip
# The same with numbers beside the value that are no part of it: sizes, limits, axes.
COMPUTED_FROM_FIRST = (
    "Clip", "Resize", "Upsample", "ReduceL1", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceLogSumExp", "CumSum",
    "Trilu", "AveragePool", "MaxPool", "GlobalAveragePool", "DepthToSpace", "SpaceToDepth", "Dropout",
)  # fmt: skip
MADE_BY_TORCHSCRIPT = re.compile(r"^onnx::\w+_\d+$")
TRAINED_NAMES = re.compile(
    r"weight|bias|gamma|beta|(^|[._])(cls|mask|class|dist|pos|position|time|temporal|spatial)[._]?(token|embed\w*)|embed"
)
# Where a repeated number under an invented name is how an exporter spells "none".
FILLED: Mapping[str, tuple[int, ...]] = {
    "Conv": (2,),
    "ConvTranspose": (2,),
    "BatchNormalization": (1, 2),
    "InstanceNormalization": (1, 2),
    "GroupNormalization": (1, 2),
    "LayerNormalization": (1, 2),
    "RMSNormalization": (1,),
    "GRU": (3, 5),
    "LSTM": (3, 5, 6, 7),
    "RNN": (3, 5),
}
LONGEST_CHAIN = 64


@dataclass(frozen=True, slots=True, eq=False)
class Roles:
    """What each constant is.

    Attributes
    ----------
    parameters
        Trained values, in the order in which the graph reads them.
    statistics
        Running means and variances of batch normalisation.
    readers
        For every parameter the first operation that combines it with the clip.
    notes
        Sentences for the report, where the file leaves doubt.
    precomputed
        Parameters that stand for values which the exporter computed from the real ones.
    unaccounted
        How many numbers of the file are neither parameters nor statistics.
    """

    parameters: dict[str, Tensor]
    statistics: dict[str, Tensor]
    readers: dict[str, Node]
    notes: tuple[str, ...] = ()
    precomputed: tuple[str, ...] = ()
    unaccounted: Unaccounted = Unaccounted()  # noqa: RUF009 - records never change


class _ConstantSearch:
    def __init__(self, graph: Graph) -> None:
        self.constants = dict(graph.constants)
        self.kinds = graph.kinds
        self.folded = graph.folded
        self.initializers = graph.initializers
        self.recorded: dict[str, str] = {}
        self.verdicts: dict[str, str] = {}
        self.seen: dict[tuple[object, ...], set[tuple[str, bool]]] = {}
        self.nodes = list(graph.walk())
        for node in self.nodes:
            for subgraph in node.subgraphs():
                self.constants.update(subgraph.constants)
        self.producers = {name: node for node in self.nodes for name in node.outputs if name}
        self.carried = carried_unchanged(self.nodes)
        self.live = set(graph.inputs)
        self.raw = set(graph.inputs)
        for node in followed(graph):
            self._follow(node)

    def _follow(self, node: Node) -> None:
        """Extend the values that depend on the clip, and those that are still the clip itself, rescaled."""
        reads = node.inputs[:1] if node.operator == "CastLike" else node.inputs
        inner = list(node.subgraphs())
        if inner:
            given = [name for graph in inner for name in graph.inputs]
            self.live.update(name for name in (*given, *node.outputs) if not self._is_constant(name))
            return
        if node.operator in ("Shape", "Size") or not self.live & set(reads):
            return
        self.live.update(node.outputs)
        if node.operator in (*MOVEMENT, *RESCALING):
            moving = [name for name in reads if name in self.live]
            if moving and all(name in self.raw for name in moving):
                self.raw.update(node.outputs)

    def _is_constant(self, name: str) -> bool:
        """Tell whether a name inside or behind a Loop or Scan stands for values that do not depend on the clip."""
        return name in self.carried and not any(source in self.live for source in self.carried[name])

    def roots(self, slot: str, seen: set[tuple[str, bool]] | None = None) -> Iterator[str]:
        """Yield the float constants that a value is made of, if it is made of constants alone.

        Values in `seen` are passed over, so that a search over many slots looks at each value once.
        """
        seen = set() if seen is None else seen
        waiting = [(slot, False)]
        while waiting:
            name, computed = waiting.pop()
            if not name or name in self.live or (name, computed) in seen:
                continue
            seen.add((name, computed))
            if name in self.constants:
                value = self.constants[name]
                number = computed and value.numel() == 1 and not self.may_be_trained(name)
                floats = value.is_floating_point() and value.numel() > 0
                if floats and not number and not self._fixed(name, value):
                    yield name
                continue
            if name in self.carried:
                waiting += [(source, computed) for source in reversed(self.carried[name])]
                continue
            node = self.producers.get(name)
            if node is None or node.domain:
                continue
            inner = computed or node.operator in COMPUTED or node.operator in COMPUTED_FROM_FIRST
            if node.operator in (*COLLECTING, *COMPUTED):
                waiting += [(source, inner) for source in reversed(node.inputs)]
            elif node.operator in (*MOVEMENT, *COMPUTED_FROM_FIRST):
                waiting += [(source, inner) for source in node.inputs[:1]]
            elif node.operator == "Where":
                waiting += [(source, inner) for source in reversed(node.inputs[1:])]

    def is_filler(self, name: str) -> bool:
        """Tell whether a constant is one repeated number that stands for none, not computed from a named value."""
        sources = [
            source for source in self.folded.get(name, ()) if source not in self.producers
        ]  # of their shape only
        behind = any(SPELLED.match(source) and not INVENTED.match(source) for source in sources)
        return not behind and is_filler(name, self.constants[name])

    def may_be_fresh(self, name: str) -> bool:
        """Tell whether a repeated number may be a norm or a scale before training, brought into shape at export."""
        return (
            not self.kinds
            and name in self.initializers
            and bool(COMPUTED_BY_TORCHSCRIPT.match(name))
            and is_vector(self.constants[name])
        )

    def may_be_trained(self, name: str) -> bool:
        """Tell whether a single number may be a parameter: recorded as one, or named as PyTorch names them."""
        if self.kinds:
            return self.kinds.get(name) == "PARAMETER"
        return bool(SPELLED.match(name)) and not INVENTED.match(name) and name in self.initializers

    def _fixed(self, name: str, value: Tensor) -> bool:
        """Tell whether a constant is known not to be trained, by what the exporter recorded or by its numbers."""
        kind = self.kinds.get(name, "")
        if kind == "PARAMETER":
            return False
        if kind:
            self.recorded[name] = kind
            return True
        if name not in self.verdicts:
            self.verdicts[name] = never_trained(name, value, self.initializers)
        return bool(self.verdicts[name])


def roles(graph: Graph, added: Mapping[tuple[str, str], tuple[int, ...]] = MappingProxyType({})) -> Roles:
    """Tell parameters, statistics and plain constants apart.

    `added` gives the weight slots of operators that a user added, by domain and name.

    Raises
    ------
    NotAuditable
        A weight holds NaN or infinity.
    """
    search = _ConstantSearch(graph)
    parameters: dict[str, Tensor] = {}
    readers: dict[str, Node] = {}
    statistics: dict[str, Tensor] = {}
    combined: list[str] = []
    for node in search.nodes:
        if node.operator == "BatchNormalization":
            for slot in node.inputs[3:5]:
                for root in _statistics(search, slot):
                    statistics[root] = _finite(root, search.constants[root])
        for root in _trained(search, node, added):
            parameters.setdefault(root, search.constants[root])
            readers.setdefault(root, node)
            states = [node.inputs[i] for i in STATES.get(node.operator, ()) if i < len(node.inputs)]
            if node.operator in (*ELEMENTWISE, "Concat", "Attention") or root in states:
                combined.append(root)
    # Exporters merge equal initializers: a zero bias and a zero mean may be one. Then the bias decides.
    statistics = {name: value for name, value in statistics.items() if name not in parameters}
    precomputed = [
        name for name in parameters if PRECOMPUTED.match(name) or (name in combined and INVENTED.match(name))
    ]
    precomputed += [name for name in _computed_at_export(search) if name not in precomputed]
    fixed = {name: what for name, what in search.verdicts.items() if what}
    passed = [name for name in _unclaimed(search) if name not in parameters and name not in statistics]
    guessed = [name for name in parameters if _may_be_a_buffer(search, name)]
    repeated = [name for name in parameters if name in combined and search.is_filler(name)]
    precomputed = [name for name in precomputed if name not in repeated]
    known = (*parameters, *statistics)
    counted = accounting(search.constants, search.nodes, known)
    notes = (*constant_notes(precomputed, fixed, passed, guessed, repeated), counted)
    of_parameters = tuple(name for name in precomputed if name in parameters)
    rest = unaccounted(search.constants, known, fixed)
    return Roles(parameters, statistics, readers, notes, of_parameters, rest)


def _computed_at_export(search: _ConstantSearch) -> Iterator[str]:
    """Yield what stands beside the parameters it was computed from, or in the place of some: their norms, powers."""
    for node in search.nodes:
        for name in node.inputs:
            if any(search.kinds.get(source) == "PARAMETER" for source in search.folded.get(name, ())):
                if search.constants[name].numel() == 1 and search.constants[name].is_floating_point():
                    yield name
            elif MADE_BY_TORCHSCRIPT.match(name) and name in search.constants:
                whole = node.operator == "Conv" or (node.operator == "Gemm" and node.attributes.get("transB") == 1)
                weight = whole and name == node.inputs[1]
                merged = len(node.inputs) > 2 and not SPELLED.match(node.inputs[2])  # batch normalisation
                if (
                    search.constants[name].is_floating_point()
                    and search.constants[name].numel() > 1
                    and ((weight and not merged) or node.operator in (*COMPUTED_FROM_FIRST, "Expand", "Sqrt"))
                ):
                    yield name


def _unclaimed(search: _ConstantSearch) -> Iterator[str]:
    """Yield constants with names that PyTorch gives, in the order of the graph, that may be parameters all the same."""
    seen: set[str] = set()
    for node in search.nodes:
        for name in node.inputs if node.operator not in ("Resize", "Upsample") else node.inputs[:1]:
            value = search.constants.get(name)
            if name in seen or value is None or not value.is_floating_point() or search.verdicts.get(name):
                continue
            seen.add(name)
            if search.may_be_trained(name):
                yield name


def _may_be_a_buffer(search: _ConstantSearch, name: str) -> bool:
    """Tell whether a parameter may be a fixed table: nothing is recorded, and its name is not what layers use."""
    return name not in search.kinds and search.may_be_trained(name) and not TRAINED_NAMES.search(name)


def _statistics(search: _ConstantSearch, slot: str) -> list[str]:
    """Return the constants behind a running mean or variance, which the exporter may have recorded as buffers."""
    name = slot
    for _ in range(LONGEST_CHAIN):
        if name in search.constants:
            return [name] if search.constants[name].is_floating_point() else []
        node = search.producers.get(name)
        if node is None or name in search.live or node.operator not in MOVEMENT or not node.inputs:
            return []
        name = node.inputs[0]
    return []


def _trained(search: _ConstantSearch, node: Node, added: Mapping[tuple[str, str], tuple[int, ...]]) -> list[str]:
    places = added.get((node.domain, node.operator))
    if places is None and not node.domain:
        places = WEIGHT_SLOTS.get(node.operator)
    live = [name for name in node.inputs if name in search.live]
    if node.operator in ("Loop", "Scan") and not node.domain:
        return _initial_states(search, node)
    if not live:
        return []
    if places is not None:
        if node.operator == "InstanceNormalization" and _stands_for_group_norm(search, node):
            return []
        found = []
        for place in places:
            filled = not node.domain and place in FILLED.get(node.operator, ())
            seen = search.seen.setdefault(("weight", filled), set())
            for root in search.roots(node.inputs[place], seen) if place < len(node.inputs) else ():
                if not (filled and search.is_filler(root)):
                    found.append(root)
        for root in found:
            _finite(root, search.constants[root])
        return found
    if node.operator not in (*ELEMENTWISE, "Concat"):
        return []
    found = []
    # The mean and the deviation of the input pixels are no parameters.
    on_pixels = node.operator != "Concat" and all(name in search.raw for name in live)
    seen = search.seen.setdefault(("elementwise", on_pixels), set())
    for slot in node.inputs:
        for root in search.roots(slot, seen):
            value = search.constants[root]
            recorded = search.kinds.get(root) == "PARAMETER"
            if not recorded and not search.may_be_trained(root) and value.numel() == 1:
                continue
            if not recorded and (is_mask(value) or (search.is_filler(root) and not search.may_be_fresh(root))):
                continue
            if recorded or not (on_pixels and (is_per_channel(value) or value.numel() == 1)):
                found.append(root)
    return found


def _initial_states(search: _ConstantSearch, node: Node) -> list[str]:
    """Return what the states of a Loop or Scan begin from, where it is recorded as trained or no repeated number."""
    seen = search.seen.setdefault(("state", node.operator), set())
    found = [root for name in varying_states(node) for root in search.roots(name, seen)]
    return [root for root in found if search.kinds.get(root) == "PARAMETER" or not is_uniform(search.constants[root])]


def _stands_for_group_norm(search: _ConstantSearch, node: Node) -> bool:
    """Tell whether an InstanceNormalization on reshaped groups has the constant scale that exporters give it."""
    producer = search.producers.get(node.inputs[0])
    if producer is None or producer.operator != "Reshape":
        return False
    scales, shifts = (list(search.roots(name)) for name in node.inputs[1:3])
    return all(bool((search.constants[name] == 1).all()) for name in scales) and all(
        bool((search.constants[name] == 0).all()) for name in shifts
    )


def _finite(name: str, value: Tensor) -> Tensor:
    # A sum that is finite proves all of its terms finite, in one pass and without a mask as large as the weights.
    if not math.isfinite(float(value.sum())) and not bool(torch.isfinite(value).all()):
        raise NotAuditable(
            f"tensor '{printable(name)}' holds NaN or infinity",
            "export the model again from a checkpoint that is finite",
        )
    return value
