"""Which constants of an ONNX graph clients train: the mapping from file to gradient that an audit stands on.

An ONNX file does not say which of its numbers are parameters. A float initializer is one when it reaches, through data
movement or arithmetic on constants alone, the weight slot of an operation, or an elementwise Add, Mul or Sub (position
embeddings, biases) or Concat (class tokens) whose other operand depends on the clip.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from auditor.errors import NotAuditable
from auditor.model.graph import Graph, Node
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
    "GRU": (1, 2, 3),
    "LSTM": (1, 2, 3, 7),
    "RNN": (1, 2, 3),
    "PRelu": (1,),
    "Gather": (0,),
}
ELEMENTWISE = ("Add", "Mul", "Sub", "Sum")
MOVEMENT = (
    "Identity", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Split", "Concat", "Expand",
    "Cast", "CastLike", "Gather", "GatherND", "GatherElements", "Tile", "Pad",
)  # fmt: skip
ARITHMETIC = (
    "Add", "Sub", "Mul", "Div", "Sqrt", "Pow", "Exp", "ReduceL2", "ReduceSum", "ReduceMean", "ReduceSumSquare",
    "Reciprocal", "LpNormalization", "Tanh", "Sigmoid", "Neg",
)  # fmt: skip
# Names that exporters invent; a name that a person chose has none of these forms.
INVENTED = re.compile(r"^(val_\d+|\d+|onnx::\w+|/.*_output_\d+|_?const(ant)?[_\d].*|.*/Constant\w*|Constant\w*)$")
MASKED = -1e3


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
    """

    parameters: dict[str, Tensor]
    statistics: dict[str, Tensor]
    readers: dict[str, Node]


class _Search:
    def __init__(self, graph: Graph) -> None:
        self.constants = dict(graph.constants)
        self.nodes = list(graph.walk())
        for node in self.nodes:
            for subgraph in node.subgraphs():
                self.constants.update(subgraph.constants)
        self.producers = {name: node for node in self.nodes for name in node.outputs if name}
        self.live = set(graph.inputs)
        self.raw = set(graph.inputs)
        for node in self.nodes:
            self._follow(node)

    def _follow(self, node: Node) -> None:
        """Extend the values that depend on the clip, and those that are still the clip itself, rescaled."""
        reads = node.inputs[:1] if node.operator == "CastLike" else node.inputs
        inner = list(node.subgraphs())
        captured = {name for graph in inner for child in graph.walk() for name in child.inputs}
        for graph in inner:
            self.live.update(graph.inputs)
        if node.operator in ("Shape", "Size") or not (self.live & (set(reads) | captured) or inner):
            return
        self.live.update(node.outputs)
        if node.operator in (*MOVEMENT, "Add", "Sub", "Mul", "Div"):
            moving = [name for name in reads if name in self.live]
            if moving and all(name in self.raw for name in moving):
                self.raw.update(node.outputs)

    def roots(self, name: str, seen: frozenset[str] = frozenset()) -> list[str]:
        """Return the float constants that a value is made of, if it is made of constants alone."""
        if name in self.constants:
            return [name] if self.constants[name].is_floating_point() else []
        node = self.producers.get(name)
        if node is None or name in self.live or name in seen or node.domain:
            return []
        if node.operator in ("Concat", *ARITHMETIC):
            sources = node.inputs
        elif node.operator in MOVEMENT:
            sources = node.inputs[:1]
        else:
            return []
        computed = node.operator in ARITHMETIC
        found = [root for source in sources if source for root in self.roots(source, seen | {name})]
        return [root for root in found if not computed or self.constants[root].numel() > 1]


def roles(graph: Graph) -> Roles:
    """Tell parameters, statistics and plain constants apart.

    Raises
    ------
    NotAuditable
        A weight holds NaN or infinity.
    """
    search = _Search(graph)
    parameters: dict[str, Tensor] = {}
    readers: dict[str, Node] = {}
    statistics: dict[str, Tensor] = {}
    for node in search.nodes:
        if node.operator == "BatchNormalization":
            for slot in node.inputs[3:5]:
                for root in search.roots(slot):
                    statistics[root] = _finite(root, search.constants[root])
        for root in _trained(search, node):
            parameters.setdefault(root, search.constants[root])
            readers.setdefault(root, node)
    # Exporters merge equal initializers: a zero bias and a zero mean may be one. Then the bias decides.
    statistics = {name: value for name, value in statistics.items() if name not in parameters}
    return Roles(parameters, statistics, readers)


def _trained(search: _Search, node: Node) -> list[str]:
    if node.operator in WEIGHT_SLOTS:
        if node.operator == "InstanceNormalization" and _stands_for_group_norm(search, node):
            return []
        if not any(name in search.live for name in node.inputs):
            return []
        slots = [node.inputs[i] for i in WEIGHT_SLOTS[node.operator] if i < len(node.inputs)]
        found = [root for slot in slots if slot and slot not in search.live for root in search.roots(slot)]
        if node.operator == "Conv":  # dynamo without optimisation spells "no bias" as expanded zeros
            found = [root for root in found if not _invented_filler(root, search.constants[root])]
        for root in found:
            _finite(root, search.constants[root])
        return found
    if node.operator not in (*ELEMENTWISE, "Concat"):
        return []
    live = [name for name in node.inputs if name in search.live]
    if not live:
        return []
    found = []
    for slot in node.inputs:
        for root in search.roots(slot) if slot not in search.live else []:
            value = search.constants[root]
            if value.dim() == 0 or value.numel() == 1 or _invented_filler(root, value) or _is_mask(value):
                continue
            if node.operator != "Concat" and all(name in search.raw for name in live) and _per_channel(value):
                continue  # mean and std of the input pixels
            found.append(root)
    return found


def _stands_for_group_norm(search: _Search, node: Node) -> bool:
    """Tell whether an InstanceNormalization on reshaped groups has the constant scale that exporters give it."""
    producer = search.producers.get(node.inputs[0])
    if producer is None or producer.operator != "Reshape":
        return False
    scales, shifts = (search.roots(name) for name in node.inputs[1:3])
    return all(bool((search.constants[name] == 1).all()) for name in scales) and all(
        bool((search.constants[name] == 0).all()) for name in shifts
    )


def _invented_filler(name: str, value: Tensor) -> bool:
    """Tell whether a constant is one repeated number under a name that no person chose."""
    return bool(INVENTED.match(name)) and value.numel() > 0 and bool((value == value.reshape(-1)[0]).all())


def _is_mask(value: Tensor) -> bool:
    return not bool(torch.isfinite(value).all()) or bool(((value == 0) | (value <= MASKED)).all() & (value != 0).any())


def _per_channel(value: Tensor) -> bool:
    return value.numel() <= 4 and sum(extent > 1 for extent in value.shape) == 1


def _finite(name: str, value: Tensor) -> Tensor:
    if not bool(torch.isfinite(value).all()):
        raise NotAuditable(
            f"tensor '{printable(name)}' holds NaN or infinity",
            "export the model again from a checkpoint that is finite",
        )
    return value
