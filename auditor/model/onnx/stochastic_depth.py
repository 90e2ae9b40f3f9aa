"""Stochastic depth in an ONNX file, written there as an export in training mode: switched off, as dropout is.

torchvision draws one number for every clip, compares it with the share of clips that keep the branch, and multiplies
the branch by the outcome over that share: `Mul(branch, Div(Cast(Less(RandomUniformLike, share)), share))`. Where the
numbers are exactly these, evaluation keeps the branch as it is.
"""

from collections import Counter

from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, numpy_helper

# Both numbers are one float32 in PyTorch's exports.
SAME = 1e-6


def keep_branches(graph: GraphProto) -> list[str]:
    """Let every branch that stochastic depth drops at random through, in place; return sentences for the report."""
    made = {name: node for node in graph.node for name in node.output}
    numbers = _numbers(graph)
    drawn: list[NodeProto] = []
    branches = 0
    for node in graph.node:
        if node.op_type != "Mul" or node.domain or len(node.input) != 2:
            continue
        for place in (1, 0):
            chain = _chain(node.input[place], made, numbers)
            if chain:
                branch = node.input[1 - place]
                node.op_type = "Identity"
                node.input[:] = [branch]
                drawn += chain
                branches += 1
                break
    if not branches:
        return []
    _drop_unread(graph, drawn)
    return [
        f"Stochastic depth is off: {branches} branches that training drops at random are kept, as in evaluation "
        "(--dropout does not change that)."
    ]


def _chain(name: str, made: dict[str, NodeProto], numbers: dict[str, float]) -> list[NodeProto]:
    """Return the nodes that draw which clips keep a branch, last first; none if `name` is anything else."""
    chain: list[NodeProto] = []
    for operator, inputs in (("Div", 2), ("Cast", 1), ("Less", 2), ("RandomUniformLike", 1)):
        node = made.get(name)
        if node is None or node.op_type != operator or node.domain or len(node.input) != inputs:
            return []
        chain.append(node)
        name = node.input[0]
    divided, compared = numbers.get(chain[0].input[1]), numbers.get(chain[2].input[1])
    if divided is None or compared is None or not 0 < compared <= 1 or abs(divided - compared) > SAME:
        return []
    limits = {a.name: a.f for a in chain[3].attribute if a.type == AttributeProto.FLOAT}
    return chain if limits.get("low", 0.0) == 0 and limits.get("high", 1.0) == 1 else []


def _numbers(graph: GraphProto) -> dict[str, float]:
    """Return every constant that is a single float, by name."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and not node.domain and len(node.attribute) == 1 and len(node.output) == 1:
            tensors[node.output[0]] = node.attribute[0].t
    return {
        name: float(numpy_helper.to_array(tensor).reshape(-1)[0])
        for name, tensor in tensors.items()
        if tensor.data_type == TensorProto.FLOAT and all(extent == 1 for extent in tensor.dims)
        and (len(tensor.raw_data) == 4 or len(tensor.float_data) == 1)
    }  # fmt: skip


def _drop_unread(graph: GraphProto, drawn: list[NodeProto]) -> None:
    """Remove what drew the numbers, where nothing else reads it."""
    uses = Counter(name for node in graph.node for name in node.input)
    uses.update(value.name for value in graph.output)
    gone: set[str] = set()
    for node in drawn:  # the last node of a chain comes first
        if node.output[0] not in gone and not any(uses[name] for name in node.output):
            gone.add(node.output[0])
            uses.subtract(node.input)
    for index in reversed(range(len(graph.node))):
        if gone.intersection(graph.node[index].output):
            del graph.node[index]
