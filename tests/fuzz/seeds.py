"""Small files that load, which mutants are made from."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from zoo import build, export

NETS = (
    ("conv3d", "legacy"), ("pooled", "legacy-training"), ("groupnorm", "dynamo-plain"), ("squeeze-excite", "legacy"),
    ("gru", "legacy"), ("lstm", "legacy"), ("vivit-cls", "dynamo"), ("encoder", "legacy"),
)  # fmt: skip


def handmade() -> onnx.ModelProto:
    """A classifier of 30 lines with an If, a Loop and a local function."""
    rng = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(rng.normal(size=(4, 3, 1, 2, 2)).astype(np.float32), "w"),
        numpy_helper.from_array(rng.normal(size=(4, 3)).astype(np.float32), "head"),
        numpy_helper.from_array(np.array(True), "yes"),
        numpy_helper.from_array(np.array(3, np.int64), "three"),
    ]
    info = helper.make_tensor_value_info
    branch = helper.make_graph(
        [helper.make_node("Relu", ["maps"], ["b"])], "b", [], [info("b", TensorProto.FLOAT, None)]
    )
    other = helper.make_graph([helper.make_node("Neg", ["maps"], ["b"])], "c", [], [info("b", TensorProto.FLOAT, None)])
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Mul", ["s", "s"], ["t"])],
        "body",
        [info("i", TensorProto.INT64, []), info("go", TensorProto.BOOL, []), info("s", TensorProto.FLOAT, None)],
        [info("on", TensorProto.BOOL, []), info("t", TensorProto.FLOAT, None)],
    )
    nodes = [
        helper.make_node("Conv", ["clip", "w"], ["maps"]),
        helper.make_node("If", ["yes"], ["chosen"], then_branch=branch, else_branch=other),
        helper.make_node("Pool", ["chosen"], ["pooled"], domain="local"),
        helper.make_node("Loop", ["three", "", "pooled"], ["looped"], body=body),
        helper.make_node("MatMul", ["looped", "head"], ["logits"]),
    ]
    pool = helper.make_function(
        "local", "Pool", ["x"], ["y"], [helper.make_node("ReduceMean", ["x"], ["y"], axes=[2, 3, 4], keepdims=0)],
        [helper.make_opsetid("", 17)],
    )  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "g",
        [info("clip", TensorProto.FLOAT, [1, 3, 2, 8, 8])],
        [info("logits", TensorProto.FLOAT, [1, 3])],
        weights,
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    return helper.make_model(graph, opset_imports=opsets, functions=[pool], ir_version=9)


def seeds(folder: Path, nets: tuple[tuple[str, str], ...] = NETS) -> dict[str, bytes]:
    """Return the content of every seed; exports are made in `folder`, and kept there."""
    found = {"handmade": handmade().SerializeToString()}
    for net, exporter in nets:
        path = folder / f"{net}-{exporter}.onnx"
        if not path.exists():
            export(build(net), path, exporter)
        found[path.stem] = path.read_bytes()
    return found
