"""Finding one's way in the graph of a file: who makes and reads a value, its shape, and its constants."""

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

# A head reads features: a product with a weight of two axes.
_PRODUCTS = ("Gemm", "MatMul")
_FOLDED = ("Constant", "Reshape", "Concat", "Squeeze", "Unsqueeze", "Cast", "Gather", "Identity")
# Axes and shapes are short.
_MOST_FOLDED = 16


def folded(model: ModelProto) -> None:
    """Compute what follows from small whole-number constants alone, such as the axes and shapes that exporters write.

    What they wrote of shapes is then told by inference.
    """
    graph = model.graph
    small = {t.name: numpy_helper.to_array(t) for t in graph.initializer if _is_small(t)}
    kept = []
    for node in graph.node:
        known = [small[v] for v in node.input if v in small]
        if len(known) < len([v for v in node.input if v]) or node.op_type not in _FOLDED or len(node.output) != 1:
            kept.append(node)
            continue
        (found,) = ReferenceEvaluator(node).run(None, dict(zip(node.input, known, strict=False)))
        made = np.asarray(found)
        if made.dtype != np.int64 or made.size > _MOST_FOLDED:
            kept.append(node)
            continue
        small[node.output[0]] = made
        add_constant(graph, node.output[0], made)
    del graph.node[:]
    graph.node.extend(kept)


def _is_small(tensor: TensorProto) -> bool:
    count = int(np.prod(tensor.dims)) if tensor.dims else 1
    return tensor.data_type == onnx.TensorProto.INT64 and count <= _MOST_FOLDED


def flattened(model: ModelProto) -> None:
    """Write each Reshape on the way to the head that flattens all but the clips as the operator Flatten.

    It is told by the head: its weight reads as many features as one clip has values there.
    """
    graph, node = model.graph, head(model.graph)
    known = shapes(model)
    weight = None if node is None else next(t for t in graph.initializer if t.name == node.input[1])
    if node is None or weight is None:
        return
    features = weight.dims[1 if transposed(node) else 0]
    for step in way_to(graph, node.input[0]):
        shape = known.get(step.input[0], ())
        if step.op_type == "Reshape" and len(shape) > 2 and int(np.prod(shape[1:])) == features:
            step.CopyFrom(helper.make_node("Flatten", [step.input[0]], list(step.output), name=step.name, axis=1))


def maker(graph: GraphProto, value: str) -> NodeProto | None:
    """Return the node that makes a value; None for inputs and constants."""
    return next((node for node in graph.node if value in node.output), None)


def readers(graph: GraphProto, value: str) -> list[NodeProto]:
    """Return the nodes that read a value."""
    return [node for node in graph.node if value in node.input]


def shapes(model: ModelProto) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all values that can be told, an open batch as 1; what the file says of them is not used."""
    bare = ModelProto()
    bare.CopyFrom(model)
    del bare.graph.value_info[:]
    for value in bare.graph.input:
        sizes = value.type.tensor_type.shape.dim
        if sizes and not sizes[0].dim_value:
            sizes[0].dim_value = 1
    for value in bare.graph.output:  # what is stated would be held against what follows
        value.type.tensor_type.ClearField("shape")
    inferred = shape_inference.infer_shapes(bare, data_prop=True).graph
    found = {}
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        sizes = [d.dim_value for d in value.type.tensor_type.shape.dim]
        if sizes and all(sizes):
            found[value.name] = tuple(sizes)
    return found


def constant(graph: GraphProto, value: str) -> np.ndarray | None:
    """Return a constant: an initialiser, or what a Constant node holds; None for anything else."""
    for tensor in graph.initializer:
        if tensor.name == value:
            return numpy_helper.to_array(tensor)
    node = maker(graph, value)
    if node is None or node.op_type != "Constant":
        return None
    held = next((a.t for a in node.attribute if a.name == "value"), None)
    return None if held is None else numpy_helper.to_array(held)


def set_constant(graph: GraphProto, name: str, value: np.ndarray) -> None:
    """Put another value in an initialiser's place."""
    tensor = next(t for t in graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(value, name))


def add_constant(graph: GraphProto, name: str, value: np.ndarray) -> str:
    """Add an initialiser under a name that is free, and return it."""
    graph.initializer.append(numpy_helper.from_array(value, name))
    return name


def free_name(graph: GraphProto, wanted: str) -> str:
    """Return a name that no value of the graph has."""
    taken = {v for node in graph.node for v in (*node.input, *node.output)} | {t.name for t in graph.initializer}
    return next(n for n in (wanted, *(f"{wanted}_{k}" for k in range(len(taken) + 1))) if n not in taken)


def head(graph: GraphProto) -> NodeProto | None:
    """Return the first product with a weight of two axes behind the last convolution; None where there is none."""
    places = [i for i, node in enumerate(graph.node) if node.op_type == "Conv"]
    after = list(graph.node)[places[-1] + 1 :] if places else []
    weights = {t.name: t for t in graph.initializer}
    return next(
        (n for n in after if n.op_type in _PRODUCTS and n.input[1] in weights and len(weights[n.input[1]].dims) == 2),
        None,
    )


def way_to(graph: GraphProto, value: str) -> list[NodeProto]:
    """Return the nodes that make a value out of the last convolution, the nearest first, along first inputs."""
    found: list[NodeProto] = []
    node = maker(graph, value)
    while node is not None and node.op_type != "Conv" and len(found) < len(graph.node):
        found.append(node)
        node = maker(graph, node.input[0]) if node.input else None
    return found


def insert(graph: GraphProto, place: NodeProto, new: Sequence[NodeProto]) -> None:
    """Put nodes before another one."""
    nodes = list(graph.node)
    at = next(i for i, node in enumerate(nodes) if node is place or node == place)
    del graph.node[:]
    graph.node.extend([*nodes[:at], *new, *nodes[at:]])


def transposed(node: NodeProto) -> bool:
    """Tell whether a Gemm reads its weight as (output, input)."""
    return any(a.name == "transB" and a.i for a in node.attribute)


def is_float(tensor: TensorProto) -> bool:
    """Tell whether a tensor holds float32."""
    return tensor.data_type == onnx.TensorProto.FLOAT
