"""Models of text, tables, sound and quantised ones are named as such, and strange frames are questioned."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from refusals import fails

from auditor.errors import NotAuditable
from auditor.model import load

node = helper.make_node


def saved(path, shape, nodes, constants, kind=TensorProto.FLOAT) -> str:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value.astype("f4"), name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return str(path)


@pytest.mark.parametrize(
    ("shape", "kind", "word"),
    [
        (["n", "length"], TensorProto.INT64, "text"),
        (["n", 12], TensorProto.FLOAT, "tables"),
        (["n", 40, "t"], TensorProto.FLOAT, "sound"),
    ],
)
def test_inputs_of_few_axes_are_no_frames(shape, kind, word, tmp_path) -> None:
    nodes = [
        node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        node("ReduceMean", ["f"], ["m"], axes=[-1]),
        node("Mul", ["m", "w"], ["y"]),
    ]
    text = fails(NotAuditable, word, source=saved(tmp_path / "m.onnx", shape, nodes, {"w": np.ones(5)}, kind))
    assert "--input-shape" not in text


def test_a_quantised_model_is_told_so(tmp_path) -> None:
    nodes = [
        node("Flatten", ["x"], ["f"]),
        node("DynamicQuantizeLinear", ["f"], ["q", "s", "z"]),
        node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        node("MatMul", ["d", "w"], ["y"]),
    ]
    path = saved(tmp_path / "m.onnx", [1, 3, 4, 8, 8], nodes, {"w": np.ones((768, 5))})
    fails(NotAuditable, "quantised", "audit the float model", source=path)


@pytest.mark.parametrize(
    ("shape", "word"),
    [
        ((3, 30, 18, 2), "skeleton"),
        ((1, 64, 300), "spectrogram"),
        ((1, 64, 100), "spectrogram"),
        ((3, 8, 16, 16), ""),
        ((1, 16, 16), ""),
    ],
)
def test_frames_that_are_hardly_pictures_are_questioned(shape, word, tmp_path) -> None:
    count = int(np.prod(shape))
    weight = np.random.default_rng(0).normal(size=(5, count)) / count**0.5
    nodes = [node("Flatten", ["x"], ["f"]), node("Gemm", ["f", "w"], ["y"], transB=1)]
    target = load(saved(tmp_path / "m.onnx", [1, *shape], nodes, {"w": weight}))
    assert any("mean nothing" in note for note in target.fidelity.notes) == bool(word)
    assert word in " ".join(target.fidelity.notes)
    assert any("single pictures" in note for note in target.fidelity.notes) == (len(shape) == 3)
