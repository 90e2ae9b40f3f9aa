"""An ONNX graph as plain Python: nodes with decoded attributes, constants as torch tensors."""

import heapq
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import torch
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper
from torch import Tensor

from auditor.errors import NotAuditable
from auditor.model.onnx.inlining import inlined
from auditor.text import printable

BIG_NUMBER_OF_NODES = 200_000
DEEPEST_NESTING = 16
KIND = "pkg.torch.export.graph_signature.InputSpec.kind"
ORIGINAL = "pkg.torch.onnx.original_node_name"
FOLDED = "pkg.onnxscript.optimizer.folded_from"
QUOTED = re.compile(r"'([^']{0,200})'")

# Every floating type becomes float32 and every integer type one that torch computes with.
DTYPES: Mapping[int, torch.dtype] = {
    TensorProto.FLOAT: torch.float32,
    TensorProto.DOUBLE: torch.float32,
    TensorProto.FLOAT16: torch.float32,
    TensorProto.BFLOAT16: torch.float32,
    TensorProto.UINT8: torch.uint8,
    TensorProto.INT8: torch.int8,
    TensorProto.UINT16: torch.int32,
    TensorProto.INT16: torch.int16,
    TensorProto.UINT32: torch.int64,
    TensorProto.INT32: torch.int32,
    TensorProto.UINT64: torch.int64,
    TensorProto.INT64: torch.int64,
    TensorProto.BOOL: torch.bool,
}
NARROW_OR_WIDE: Mapping[int, str] = {
    TensorProto.FLOAT16: "float16",
    TensorProto.BFLOAT16: "bfloat16",
    TensorProto.DOUBLE: "float64",
}


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One operation of the graph.

    Attributes
    ----------
    domain
        Empty for the operators of ONNX itself.
    opset
        The version of the operator set that the file declares for `domain`.
    metadata
        What the exporter left: `pkg.torch.onnx.name_scopes` and the like.
    """

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    domain: str = ""
    opset: int = 0
    metadata: Mapping[str, str] = field(default_factory=dict)

    def subgraphs(self) -> "Iterator[Graph]":
        """Yield the graphs that control flow carries in its attributes."""
        return (value for value in self.attributes.values() if isinstance(value, Graph))


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """Nodes in an order in which they can run, and the constants they read (initializers and `Constant` nodes).

    `kinds` tells what a constant was in the program that was exported, PARAMETER or BUFFER, `originals` how that
    program spelled it, and `folded` the values that the exporter computed it from: each where the exporter recorded it.
    `initializers` are the constants that are no `Constant` nodes.
    """

    nodes: tuple[Node, ...]
    constants: dict[str, Tensor]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    kinds: Mapping[str, str] = field(default_factory=dict)
    originals: Mapping[str, str] = field(default_factory=dict)
    folded: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    initializers: frozenset[str] = frozenset()

    def walk(self) -> Iterator[Node]:
        """Yield every node, those of nested graphs too."""
        for node in self.nodes:
            yield node
            for subgraph in node.subgraphs():
                yield from subgraph.walk()


def tensor_of(proto: TensorProto) -> Tensor:
    """Decode a tensor; floats become float32.

    Raises
    ------
    NotAuditable
        Its element type has no counterpart, or its bytes do not fit its shape.
    """
    if proto.data_type not in DTYPES:
        kind = TensorProto.DataType.Name(proto.data_type) if proto.data_type in TensorProto.DataType.values() else "?"
        raise NotAuditable(
            f"tensor '{printable(proto.name)}' has element type {kind}, which no gradient passes through",
            "export the model before quantisation, in float32",
        )
    if proto.data_location == TensorProto.EXTERNAL:  # reading a file fills these, by its own rules
        raise NotAuditable(f"tensor '{printable(proto.name)}' still lies in another file", "export the model again")
    try:
        array = numpy_helper.to_array(proto)
    except (ValueError, TypeError, OverflowError) as error:
        shape = printable(str(tuple(proto.dims[:20])))
        raise NotAuditable(
            f"tensor '{printable(proto.name)}' is damaged: its data do not fill shape {shape}",
            "export the model again",
        ) from error
    dtype = DTYPES[proto.data_type]
    if proto.data_type in NARROW_OR_WIDE:
        array = array.astype(np.float32)
    elif proto.data_type in (TensorProto.UINT16, TensorProto.UINT32, TensorProto.UINT64):
        array = array.astype(np.int64)
    return torch.from_numpy(np.array(array, copy=True)).to(dtype)


def read_graph(model: ModelProto) -> Graph:
    """Decode the main graph, with local functions inlined.

    Raises
    ------
    NotAuditable
        The graph is too large, too deeply nested, or a value is read that nothing produces.
    """
    model = inlined(model)
    opsets = {entry.domain if entry.domain != "ai.onnx" else "": entry.version for entry in model.opset_import}
    return _graph(model.graph, opsets, frozenset(), 0)


def _graph(proto: GraphProto, opsets: Mapping[str, int], outer: frozenset[str], depth: int) -> Graph:
    if depth > DEEPEST_NESTING:
        raise NotAuditable(
            f"graphs are nested more than {DEEPEST_NESTING} deep", "export the model without control flow"
        )
    if len(proto.node) > BIG_NUMBER_OF_NODES:
        raise NotAuditable(
            f"the graph has {len(proto.node)} nodes (at most {BIG_NUMBER_OF_NODES} are read)", "export a smaller model"
        )
    constants = {tensor.name: tensor_of(tensor) for tensor in proto.initializer}
    for sparse in proto.sparse_initializer:
        constants[sparse.values.name] = _dense(sparse)
    initializers = frozenset(constants)
    inputs = tuple(value.name for value in proto.input if value.name not in constants)
    known = outer | constants.keys() | set(inputs)
    outputs = [name for node in proto.node for name in node.output if name]
    twice = next((name for name, count in Counter([*constants, *inputs, *outputs]).items() if count > 1), None)
    if twice is not None:  # dynamo writes such files when a buffer has the name of an operation, such as `index`
        raise NotAuditable(
            f"two values of the graph are called '{printable(twice)}', so neither's gradient is certain",
            "rename the buffer or parameter of that name and export the model again",
        )
    inner = known | {name for node in proto.node for name in node.output}
    nodes = []
    for node in _in_order(proto, known):
        if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
            constants[node.output[0]] = _constant(node)
        else:
            nodes.append(_node(node, opsets, inner, depth))
    recorded: dict[str, dict[str, str]] = {KIND: {}, ORIGINAL: {}, FOLDED: {}}
    for value in proto.value_info:
        for entry in value.metadata_props if value.name in constants else ():
            if entry.key in recorded:
                recorded[entry.key][value.name] = _text(entry.value)
    given = tuple(value.name for value in proto.output)
    folded = {name: tuple(QUOTED.findall(text)) for name, text in recorded[FOLDED].items()}
    return Graph(tuple(nodes), constants, inputs, given, recorded[KIND], recorded[ORIGINAL], folded, initializers)


def _reads(node: NodeProto) -> set[str]:
    """Return every name that a node needs from outside, those that its subgraphs capture included."""
    names = set(node.input)
    for attribute in node.attribute:
        for graph in (*([attribute.g] if attribute.type == AttributeProto.GRAPH else []), *attribute.graphs):
            inner = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
            inner |= {name for child in graph.node for name in child.output}
            names |= {name for child in graph.node for name in _reads(child)} - inner
            names |= {value.name for value in graph.output} - inner
    return names - {""}


def _in_order(proto: GraphProto, known: frozenset[str]) -> list[NodeProto]:
    """Sort nodes so that every value is produced before it is read (files are almost always sorted already)."""
    ready = set(known)
    missing = [_reads(node) - known for node in proto.node]
    readers: dict[str, list[int]] = {}
    for index, names in enumerate(missing):
        for name in names:
            readers.setdefault(name, []).append(index)
    runnable = [index for index, names in enumerate(missing) if not names]
    heapq.heapify(runnable)  # among nodes that can run, keep the order of the file
    ordered = []
    while runnable:
        node = proto.node[heapq.heappop(runnable)]
        ordered.append(node)
        for name in set(node.output) - ready:
            ready.add(name)
            for index in readers.get(name, ()):
                missing[index].discard(name)
                if not missing[index]:
                    heapq.heappush(runnable, index)
    if len(ordered) < len(proto.node):
        index = next(index for index, names in enumerate(missing) if names)
        node, name = proto.node[index], min(missing[index])
        raise NotAuditable(
            f"node '{printable(node.name or node.op_type)}' reads '{printable(name)}', which nothing produces",
            "the file is damaged: export the model again",
        )
    return ordered


def _text(value: str | bytes) -> str:
    """Return a text field; what is no UTF-8 is parsed as bytes."""
    return value if isinstance(value, str) else value.decode("utf-8", "replace")


def _node(proto: NodeProto, opsets: Mapping[str, int], known: frozenset[str], depth: int) -> Node:
    domain = "" if proto.domain == "ai.onnx" else proto.domain
    outputs = list(proto.output)
    return Node(
        operator=proto.op_type,
        inputs=tuple(proto.input),
        outputs=tuple(outputs),
        attributes={a.name: _attribute(a, opsets, known, depth) for a in proto.attribute},
        name=proto.name,
        domain=domain,
        opset=opsets.get(domain, 0),
        metadata={_text(entry.key): _text(entry.value) for entry in proto.metadata_props},
    )


def _attribute(proto: AttributeProto, opsets: Mapping[str, int], known: frozenset[str], depth: int) -> Any:
    if proto.type == AttributeProto.TENSOR:
        return tensor_of(proto.t)
    if proto.type == AttributeProto.GRAPH:
        return _graph(proto.g, opsets, known, depth + 1)
    if proto.type == AttributeProto.STRING:
        return proto.s.decode("utf-8", "replace")
    if proto.type == AttributeProto.STRINGS:
        return tuple(text.decode("utf-8", "replace") for text in proto.strings)
    if proto.type == AttributeProto.INTS:
        return tuple(proto.ints)
    if proto.type == AttributeProto.FLOATS:
        return tuple(proto.floats)
    if proto.type == AttributeProto.INT:
        return proto.i
    if proto.type == AttributeProto.FLOAT:
        return proto.f
    return None


def _constant(node: NodeProto) -> Tensor:
    for attribute in node.attribute:
        if attribute.name == "value":
            return tensor_of(attribute.t)
        if attribute.name == "sparse_value":
            return _dense(attribute.sparse_tensor)
        if attribute.name in ("value_float", "value_floats"):
            value = attribute.f if attribute.name == "value_float" else list(attribute.floats)
            return torch.tensor(value, dtype=torch.float32)
        if attribute.name in ("value_int", "value_ints"):
            value = attribute.i if attribute.name == "value_int" else list(attribute.ints)
            return torch.tensor(value, dtype=torch.int64)
    raise NotAuditable(f"constant '{printable(node.name)}' holds no numeric value", "export the model again")


def _dense(sparse: onnx.SparseTensorProto) -> Tensor:
    values, indices, shape = tensor_of(sparse.values), tensor_of(sparse.indices), tuple(sparse.dims)
    if indices.dim() == 2:
        indices = torch.from_numpy(np.ravel_multi_index(indices.t().numpy(), shape))
    # Indexing checks every index against the shape; torch.sparse_coo_tensor(...).to_dense() would write anywhere.
    flat = torch.zeros(math.prod(shape), dtype=values.dtype)
    flat[indices] = values
    return flat.reshape(shape)


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
            f"Dropout '{printable(node.name)}' has a ratio that is not a number", "export the model again"
        ) from error


def operator_counts(graph: Graph) -> Mapping[str, int]:
    """Return how often each operator occurs, most frequent first; nested graphs count too."""
    counts = Counter(f"{node.domain}.{node.operator}" if node.domain else node.operator for node in graph.walk())
    return {printable(name): count for name, count in counts.most_common()}
