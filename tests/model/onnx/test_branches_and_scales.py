"""Weights that an If chooses, temperatures that an exporter folded, and masks of pruned weights."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from auditor.model import load

node, value = helper.make_node, helper.make_tensor_value_info
RANDOM = np.random.RandomState(0)
FLOATS = {
    "W1": RANDOM.randn(192, 8) * 0.1, "W2": RANDOM.randn(192, 8) * 0.1, "weight_mask": RANDOM.randint(0, 2, (192, 8)),
    "fc.weight": RANDOM.randn(5, 8), "onnx::Mul_12": np.array(1.7), "logit_scale": np.array(1.7), "one": np.array(1),
}  # fmt: skip


def _saved(path, nodes, *, end="logits") -> str:
    read = {name for n in nodes for name in n.input} | {"W1", "W2", "fc.weight"}
    values = [numpy_helper.from_array(v.astype("f4"), name) for name, v in FLOATS.items() if name in read]
    values.append(numpy_helper.from_array(np.array(True), "yes"))
    graph = helper.make_graph(
        [node("Flatten", ["clip"], ["x"]), *nodes], "g", [value("clip", TensorProto.FLOAT, ["n", 4, 3, 4, 4])],
        [value(end, TensorProto.FLOAT, ["n", 5])], values,
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return str(path)


def _branch(nodes, output) -> onnx.GraphProto:
    return helper.make_graph(nodes, output, [], [value(output, TensorProto.FLOAT, None)])


def _weight_chosen(prefix=""):
    return node(
        "If", ["yes"], [f"{prefix}W"],
        then_branch=_branch([node("Identity", ["W1"], [f"{prefix}a"])], f"{prefix}a"),
        else_branch=_branch([node("Identity", ["W2"], [f"{prefix}b"])], f"{prefix}b"),
    )  # fmt: skip


HEAD = [node("Tanh", ["h"], ["t"]), node("Gemm", ["t", "fc.weight"], ["logits"], transB=1)]
CHOSEN = {
    "the weight": [_weight_chosen(), node("MatMul", ["x", "W"], ["h"])],
    "the product": [
        node(
            "If", ["yes"], ["h"],
            then_branch=_branch([node("MatMul", ["x", "W1"], ["a"])], "a"),
            else_branch=_branch([node("MatMul", ["x", "W2"], ["b"])], "b"),
        )
    ],
    "the weight, in a branch": [
        node(
            "If", ["yes"], ["h"],
            then_branch=_branch([_weight_chosen("in"), node("MatMul", ["x", "inW"], ["a"])], "a"),
            else_branch=_branch([node("MatMul", ["x", "W2"], ["b"])], "b"),
        )
    ],
}  # fmt: skip


@pytest.mark.parametrize("what", CHOSEN)
def test_weights_that_an_if_chooses_are_parameters(what, tmp_path) -> None:
    target = load(_saved(tmp_path / "m.onnx", [*CHOSEN[what], *HEAD]))
    assert {"W1", "fc.weight"} <= target.parameters.keys()
    clip = torch.rand(1, 4, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    weight, head = (torch.tensor(FLOATS[name], dtype=torch.float32) for name in ("W1", "fc.weight"))
    assert torch.allclose(target.model(clip), (clip.flatten(1) @ weight).tanh() @ head.T, atol=1e-5)
    first = next(layer for layer in target.layers if "W1" in layer.parameters)
    assert (first.kind, first.rows) == ("linear", 1)


@pytest.mark.parametrize(
    ("scale", "told"), [("onnx::Mul_12", True), ("logit_scale", False), ("one", False)], ids=["folded", "named", "one"]
)
@pytest.mark.parametrize("softmax", [False, True])
def test_a_number_that_scales_the_logits_may_be_a_temperature(scale, told, softmax, tmp_path) -> None:
    nodes = [
        node("MatMul", ["x", "W1"], ["h"]), node("Tanh", ["h"], ["t"]),
        node("Gemm", ["t", "fc.weight"], ["l"], transB=1), node("Mul", ["l", scale], ["logits"]),
    ]  # fmt: skip
    if softmax:
        nodes.append(node("Softmax", ["logits"], ["probabilities"], axis=1))
    target = load(_saved(tmp_path / "m.onnx", nodes, end="probabilities" if softmax else "logits"))
    assert any("temperature" in note for note in target.fidelity.notes) is told
    assert ("logit_scale" in target.parameters) is (scale == "logit_scale")


def test_the_mask_of_a_pruned_weight_is_not_trained(tmp_path) -> None:
    nodes = [node("Mul", ["W1", "weight_mask"], ["thin"]), node("MatMul", ["x", "thin"], ["h"]), *HEAD]
    target = load(_saved(tmp_path / "m.onnx", nodes))
    assert target.parameters.keys() == {"W1", "fc.weight"}
    assert any("masks of pruned weights: 'weight_mask'" in note for note in target.fidelity.notes)
