"""Parameters that nothing reads on a clip are told, and are doubtful where training may read them."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from auditor.model import load, load_two_part
from auditor.score import unaccounted_for

NETS = """
import torch
from torch import nn

class Net(nn.Module):
    input_shape, layout = (3, 4, 8, 8), "NCTHW"

    def __init__(self, form):
        super().__init__()
        self.form, self.conv, self.head, self.other = form, nn.Conv3d(3, 8, 3, 2, 1), nn.Linear(8, 5), nn.Linear(8, 50)

    def forward(self, x):
        f = self.conv(x).relu().mean((2, 3, 4))
        if self.form == "features":
            return f
        if self.training and self.form == "auxiliary":
            return self.head(f), self.other(f)
        if self.training and self.form == "broken":
            raise ValueError("no training here")
        return self.head(f) if self.form != "read" else self.head(f) + self.other(f)[:, :5]

def net(form):
    made = Net(form)
    if form == "frozen":
        made.form = "auxiliary"
        made.other.requires_grad_(False)
    return made

def extractor():
    made = Net("auxiliary")
    made.form = "features"
    return made

def head(): return nn.Linear(8, 5)
"""
node, value = helper.make_node, helper.make_tensor_value_info


@pytest.mark.parametrize(
    ("form", "doubtful", "word"),
    [
        ("auxiliary", 450, "in training mode"),
        ("broken", 450, "in training mode"),
        ("idle", 0, "neither"),
        ("read", 0, ""),
    ],
)
def test_a_module_is_asked_what_it_reads_while_it_trains(form, doubtful, word, tmp_path) -> None:
    (tmp_path / "nets.py").write_text(NETS)
    fidelity = load(f"{tmp_path}/nets.py:net", arg=(("form", form),)).fidelity
    assert fidelity.unaccounted.numbers == doubtful
    assert bool(unaccounted_for(fidelity)) is bool(doubtful)
    told = [note for note in fidelity.notes if "'other.weight'" in note]
    assert len(told) == bool(word)
    assert all(word in note for note in told)


def test_a_frozen_extractor_may_hold_what_nothing_reads(tmp_path) -> None:
    (tmp_path / "nets.py").write_text(NETS)
    target = load_two_part(f"{tmp_path}/nets.py:extractor", f"{tmp_path}/nets.py:head")
    assert target.fidelity.unaccounted.numbers == 0
    assert not any("read by nothing" in note for note in target.fidelity.notes)


def _random(name: str, *shape: int) -> TensorProto:
    return numpy_helper.from_array((np.random.RandomState(len(name)).randn(*shape) * 0.1).astype("f4"), name)


def _branch(weight: str, output: str) -> onnx.GraphProto:
    product = [node("MatMul", ["x", weight], [output])]
    return helper.make_graph(product, output, [], [value(output, TensorProto.FLOAT, None)], [_random(weight, 192, 16)])


def _rounds() -> onnx.NodeProto:
    nodes = [node("MatMul", ["s", "never"], ["a"]), node("Tanh", ["a"], ["out"]), node("Identity", ["on"], ["on_out"])]
    body = helper.make_graph(
        nodes, "body",
        [value("i", TensorProto.INT64, []), value("on", TensorProto.BOOL, []), value("s", TensorProto.FLOAT, None)],
        [value("on_out", TensorProto.BOOL, []), value("out", TensorProto.FLOAT, None)],
        [_random("never", 16, 16)],
    )  # fmt: skip
    return node("Loop", ["rounds", "yes", "first"], ["h"], body=body)


FILES = {
    "a branch": (
        3072,
        [node("If", ["yes"], ["h"], then_branch=_branch("taken", "a"), else_branch=_branch("never", "b"))],
    ),
    "a loop": (256, [node("MatMul", ["x", "taken"], ["first"]), _rounds()]),
}


@pytest.mark.parametrize("what", FILES)
def test_weights_of_a_branch_that_never_runs_are_not_accounted_for(what, tmp_path) -> None:
    count, nodes = FILES[what]
    constants = [_random("fc", 16, 5), numpy_helper.from_array(np.array(True), "yes")]
    if what == "a loop":
        constants += [_random("taken", 192, 16), numpy_helper.from_array(np.array(0), "rounds")]
    graph = helper.make_graph(
        [node("Flatten", ["clip"], ["x"]), *nodes, node("MatMul", ["h", "fc"], ["logits"])], "g",
        [value("clip", TensorProto.FLOAT, ["n", 4, 3, 4, 4])], [value("logits", TensorProto.FLOAT, ["n", 5])],
        constants,
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    fidelity = load(str(tmp_path / "m.onnx")).fidelity
    assert fidelity.unaccounted.numbers == count
    assert any(f"{count:,} of the model's" in reason for reason in unaccounted_for(fidelity))
    assert any("not taken" in note and "'never'" in note for note in fidelity.notes)
