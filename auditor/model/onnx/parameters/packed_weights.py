"""Weights that a file holds as small integers and turns into floats itself: a quantised model without its operators."""

import torch

from auditor.errors import NotAuditable
from auditor.model.onnx.graph import Graph, Node
from auditor.text import printable

WEIGHT_SLOTS = {"Conv": (1,), "ConvTranspose": (1,), "Gemm": (0, 1), "MatMul": (0, 1)}
UNPACKED_BY = (
    "Cast", "CastLike", "Mul", "Div", "Sub", "Add", "Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze",
    "Concat", "Slice", "Expand",
)  # fmt: skip
SMALL = (torch.int8, torch.uint8)
# Masks and tables of a few entries may be bytes too.
FEWEST = 16


def check_not_packed(graph: Graph) -> None:
    """Refuse a graph that multiplies the clip by bytes which it cast and scaled.

    Raises
    ------
    NotAuditable
        With the largest of them.
    """
    nodes = list(graph.walk())
    constants = dict(graph.constants)
    for node in nodes:
        for inner in node.subgraphs():
            constants.update(inner.constants)
    live = _live(graph, nodes)
    producers = {name: node for node in nodes for name in node.outputs if name not in live}
    packed: dict[str, None] = {}
    for node in nodes:
        for slot in WEIGHT_SLOTS.get(node.operator, ()) if not node.domain else ():
            waiting, seen = list(node.inputs[slot : slot + 1]), set[str]()
            while waiting:
                name = waiting.pop()
                if name in seen:
                    continue
                seen.add(name)
                value, producer = constants.get(name), producers.get(name)
                if value is not None and value.dtype in SMALL and value.dim() > 1 and value.numel() >= FEWEST:
                    packed[name] = None
                elif producer is not None and producer.operator in UNPACKED_BY and not producer.domain:
                    waiting += producer.inputs
    if packed:
        largest = max(packed, key=lambda name: constants[name].numel())
        shape = "x".join(map(str, constants[largest].shape))
        raise NotAuditable(
            f"the model is quantised: {len(packed)} of its weights are bytes, as '{printable(largest, 60)}' ({shape})",
            "audit the float model it was made from",
        )


def _live(graph: Graph, nodes: list[Node]) -> set[str]:
    """Return the values that may depend on the clip; all that graphs inside nodes read or return count as such."""
    live = set(graph.inputs)
    for node in nodes:
        for inner in node.subgraphs():
            live.update((*inner.inputs, *node.outputs))
        if live & set(node.inputs):
            live.update(node.outputs)
    return live
