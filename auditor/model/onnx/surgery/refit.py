"""After a change: a head that reads another number of features is drawn anew."""

import numpy as np
import torch
from onnx import ModelProto
from torch import nn

from auditor.model.onnx.surgery.graph_parts import (
    constant,
    head,
    is_float,
    set_constant,
    shapes,
    transposed,
)
from auditor.model.surgery.refusal import refused


def refit(model: ModelProto, change: str, seed: int) -> str:
    """Draw the weight of the head anew where it reads another number of features.

    Return the name of the weight, empty where it still fits. It is drawn as `torch.nn.Linear` draws it.

    Raises
    ------
    UsageError
        Sizes cannot be told any more: something else depends on them.
    """
    graph, node = model.graph, head(model.graph)
    if node is None:
        return ""
    found = shapes(model).get(node.input[0])
    if found is None or len(found) != 2:
        raise refused(change, "what stands before the head depends on the sizes of feature maps")
    weight = next(t for t in graph.initializer if t.name == node.input[1])
    rows = transposed(node)
    if found[1] == weight.dims[1 if rows else 0]:
        return ""
    if not is_float(weight):
        raise refused(change, "the head is not in float32")
    classes = int(weight.dims[0 if rows else 1])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layer = nn.Linear(found[1], classes)
    drawn = layer.weight.detach().numpy()
    set_constant(graph, weight.name, np.ascontiguousarray(drawn if rows else drawn.T))
    if len(node.input) > 2 and constant(graph, node.input[2]) is not None:
        set_constant(graph, node.input[2], layer.bias.detach().numpy())
    return str(weight.name)
