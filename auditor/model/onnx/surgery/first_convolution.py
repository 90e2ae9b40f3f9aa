"""Stride of a graph's first convolution."""

from onnx import ModelProto, helper

from auditor.model.onnx.surgery.refit import refit
from auditor.model.surgery.refusal import refused


def change_stride(model: ModelProto, value: str, seed: int) -> str:
    """Let the first convolution walk with another stride; its weight is kept.

    Raises
    ------
    UsageError
        There is none, or what stands behind it depends on sizes.
    """
    change, graph = f"stride={value}", model.graph
    node = next((n for n in graph.node if n.op_type == "Conv"), None)
    weight = None if node is None else next((t for t in graph.initializer if t.name == node.input[1]), None)
    if node is None or weight is None:
        raise refused(change, "no convolution of the graph has a weight of its own")
    held = {a.name: a for a in node.attribute}
    if "auto_pad" in held and held["auto_pad"].s not in (b"", b"NOTSET"):
        raise refused(change, "its padding follows the stride")
    axes, parts = len(weight.dims) - 2, value.split("x")
    if len(parts) not in (1, axes):
        raise refused(change, f"the first convolution has {axes} axes", "give one number, or one for each axis: 1x2x2")
    strides = [int(p) for p in parts] * (axes if len(parts) == 1 else 1)
    if (list(held["strides"].ints) if "strides" in held else [1] * axes) == strides:
        raise refused(change, "the first convolution has that stride already")
    if "strides" in held:
        node.attribute.remove(held["strides"])
    node.attribute.append(helper.make_attribute("strides", strides))
    made = refit(model, change, seed)
    return f"stride {value} of the first convolution" + (f"; drawn anew behind it: {made}" if made else "")
