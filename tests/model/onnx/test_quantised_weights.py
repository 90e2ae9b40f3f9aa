"""Files whose weights are small integers are named as quantised, whichever way they turn into floats."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from refusals import fails

from auditor.errors import NotAuditable
from auditor.model import load

node = helper.make_node
WEIGHT = np.random.RandomState(0).randint(-127, 127, (192, 16)).astype("i1")
# From bytes to the weight of the MatMul.
WAYS = {
    "DequantizeLinear": [node("DequantizeLinear", ["bytes", "scale"], ["weight"])],
    "cast and scaled": [node("Cast", ["bytes"], ["c"], to=1), node("Mul", ["c", "scale"], ["weight"])],
    "shifted, then turned": [
        node("Cast", ["bytes"], ["c"], to=1), node("Sub", ["c", "zero"], ["s"]), node("Mul", ["s", "scale"], ["m"]),
        node("Transpose", ["m"], ["t"], perm=[1, 0]), node("Transpose", ["t"], ["weight"], perm=[1, 0]),
    ],
}  # fmt: skip


def _saved(path, nodes, *more, reads="x") -> str:
    nodes = [
        node("Flatten", ["clip"], ["x"]), *nodes, node("MatMul", [reads, "weight"], ["h"]),
        node("MatMul", ["h", "head"], ["logits"]),
    ]  # fmt: skip
    values = [
        numpy_helper.from_array(WEIGHT, "bytes"), numpy_helper.from_array(np.array(0.01, "f4"), "scale"),
        numpy_helper.from_array(np.array(3, "f4"), "zero"),
        numpy_helper.from_array(np.random.RandomState(1).randn(16, 5).astype("f4"), "head"), *more,
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("clip", TensorProto.FLOAT, ["n", 4, 3, 4, 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 5])], values,
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return str(path)


@pytest.mark.parametrize("way", WAYS)
def test_weights_kept_as_bytes_are_quantised(way, tmp_path) -> None:
    fails(NotAuditable, "quantised", "audit the float model", source=_saved(tmp_path / "m.onnx", WAYS[way]))


def test_bytes_beside_the_weights_are_no_quantisation(tmp_path) -> None:
    """A table of bytes that the clip is multiplied by is no weight."""
    table = np.random.RandomState(2).randint(0, 2, (1, 192)).astype("u1")
    nodes = [node("Cast", ["table"], ["t"], to=1), node("Mul", ["x", "t"], ["seen"])]
    given = [
        numpy_helper.from_array(table, "table"),
        numpy_helper.from_array(np.random.RandomState(3).randn(192, 16).astype("f4"), "weight"),
    ]
    target = load(_saved(tmp_path / "m.onnx", nodes, *given, reads="seen"))
    assert target.parameters.keys() == {"weight", "head"}
