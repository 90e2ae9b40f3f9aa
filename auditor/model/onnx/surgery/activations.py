"""Another activation in every place of a graph that has one as a single operator."""

import math

import numpy as np
from onnx import ModelProto, NodeProto, helper, numpy_helper

from auditor.model.onnx.surgery.graph_parts import free_name
from auditor.model.surgery.refusal import refused

_OPERATORS = {"relu": "Relu", "tanh": "Tanh", "elu": "Elu", "softplus": "Softplus", "leaky-relu": "LeakyRelu"}
_KNOWN = {*_OPERATORS.values(), "Gelu", "Selu", "Celu", "Mish", "HardSwish"}
_RECURRENT = ("LSTM", "GRU", "RNN", "Loop", "Scan", "If")
# PyTorch's slope (ONNX has none of its own in common with it).
_SLOPE = 0.01


def change_activation(model: ModelProto, value: str, seed: int) -> str:
    """Replace every activation that is one operator.

    Raises
    ------
    UsageError
        There is none, or another one is written out in several operators, which would stay.
    """
    graph, change = model.graph, f"activation={value}"
    operators = {node.op_type for node in graph.node}
    if operators & {*_RECURRENT}:
        raise refused(change, "recurrent layers and loops fix their activations")
    if "Erf" in operators or _gated(model):
        raise refused(change, "the exporter wrote an activation out in several operators", "give path/file.py:factory")
    found = [node for node in graph.node if node.op_type in _KNOWN]
    if not found:
        raise refused(change, "no operator of the graph is an activation")
    nodes: list[NodeProto] = []
    for node in graph.node:
        nodes += _made(model, node, value) if node in found else [node]
    del graph.node[:]
    graph.node.extend(nodes)
    return f"{len(found)} activations are {value}"


def _gated(model: ModelProto) -> bool:
    """Tell whether a sigmoid is multiplied by what it reads, as SiLU is written out."""
    sigmoids = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "Sigmoid"}
    products = (set(node.input) for node in model.graph.node if node.op_type == "Mul")
    return any(out in read and source in read for read in products for out, source in sigmoids.items())


def _made(model: ModelProto, node: NodeProto, value: str) -> list[NodeProto]:
    """Return the operators of an activation between the same values."""
    graph, (x, y) = model.graph, (node.input[0], node.output[0])
    if value in _OPERATORS:
        made = helper.make_node(_OPERATORS[value], [x], [y], name=node.name)
        if value == "leaky-relu":
            made.attribute.append(helper.make_attribute("alpha", _SLOPE))
        return [made]
    inner = [free_name(graph, f"{y}_{part}") for part in ("a", "b", "c", "d")]
    if value == "silu":
        return [helper.make_node("Sigmoid", [x], [inner[0]]), helper.make_node("Mul", [x, inner[0]], [y])]
    # x (1 + erf(x / sqrt 2)) / 2: the operator Gelu came with opset 20.
    numbers = {"root": math.sqrt(2.0), "one": 1.0, "half": 0.5}
    names = {name: free_name(graph, f"{y}_{name}") for name in numbers}
    root, one, half = names.values()
    constants = [
        helper.make_node("Constant", [], [names[n]], value=numpy_helper.from_array(np.array(number, dtype=np.float32)))
        for n, number in numbers.items()
    ]
    return [
        *constants,
        helper.make_node("Div", [x, root], [inner[0]]),
        helper.make_node("Erf", [inner[0]], [inner[1]]),
        helper.make_node("Add", [inner[1], one], [inner[2]]),
        helper.make_node("Mul", [x, inner[2]], [inner[3]]),
        helper.make_node("Mul", [inner[3], half], [y]),
    ]
