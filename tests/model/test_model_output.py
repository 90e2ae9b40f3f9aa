"""Outputs in every form, what a model ends in, dropout and BatchNorm of ONNX files, and frozen parameters."""

import dataclasses
from collections import OrderedDict, namedtuple
from types import SimpleNamespace

import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn import functional as F

from auditor.errors import NotAuditable, UsageError
from auditor.federated import LocalClient, observe
from auditor.model import load
from auditor.model.output import activation, pooled, select
from auditor.records import FederatedProtocol

MAIN, AUX = torch.rand(2, 4), torch.rand(2, 4)
Pair = namedtuple("Pair", ["aux", "pred"])


@dataclasses.dataclass
class Answer:
    loss: None
    logits: torch.Tensor


@pytest.mark.parametrize(
    "outputs",
    [
        MAIN,
        (MAIN, AUX),
        [None, torch.tensor([1]), MAIN],
        {"aux": AUX, "out": MAIN},
        OrderedDict(loss=AUX, logits=MAIN),
        Pair(AUX, MAIN),
        Answer(None, MAIN),
        SimpleNamespace(hidden=AUX, logits=MAIN),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_usual_output_is_found_in_every_form(outputs):
    assert select(outputs, None) is MAIN


def test_an_output_can_be_chosen_by_name_or_place():
    outputs = {"logits": MAIN, "aux": AUX}
    assert select(outputs, "aux") is AUX
    assert select(outputs, "1") is AUX
    assert select(outputs, "-1") is AUX
    for wrong in ("2", "nothing"):
        with pytest.raises(UsageError, match="none of the model's 2 outputs; use logits, aux"):
            select(outputs, wrong)
    with pytest.raises(UsageError, match="single output"):
        select(MAIN, "1")
    with pytest.raises(NotAuditable, match="no output of the model"):
        select((torch.tensor([1]), None), None)
    with pytest.raises(NotAuditable, match="returns int"):
        select(3, None)


def test_frames_are_kept_averaged_or_chosen():
    frames = torch.rand(2, 5, 4)
    assert pooled(frames, 2, None) is frames
    assert torch.equal(pooled(frames, 2, "mean"), frames.mean(1))
    assert torch.equal(pooled(frames, 2, "last"), frames[:, 4])
    assert torch.equal(pooled(frames, 2, "max"), frames.amax(1))
    in_batch = frames.flatten(0, 1)
    assert torch.allclose(pooled(in_batch, 2, None), frames.mean(1))
    assert torch.equal(pooled(in_batch, 2, "each"), frames)
    assert pooled(torch.rand(2), 2, None).shape == (2, 1)


def test_what_a_model_ends_in_is_seen_through_reshapes_and_means():
    x = torch.rand(2, 4, requires_grad=True)
    z = nn.functional.linear(x, torch.rand(3, 4))
    assert activation(z) == "none"
    assert activation(z.softmax(1)) == "softmax"
    assert activation(z.log_softmax(1)) == "log-softmax"
    assert activation(z.sigmoid().reshape(2, 3, 1).squeeze(2)) == "sigmoid"
    assert activation(z.softmax(1).reshape(1, 2, 3).mean(1)) == "softmax"
    assert activation(z.sigmoid() * x[:, :3]) == "none"


FACTORIES = """
import torch
from torch import nn

class Net(nn.Module):
    input_shape = (3, 4, 8, 8)

    def __init__(self, form):
        super().__init__()
        self.conv, self.norm, self.drop = nn.Conv3d(3, 4, 3), nn.BatchNorm3d(4), nn.Dropout(0.4)
        self.head, self.aux, self.form = nn.Linear(4, 5), nn.Linear(4, 5), form

    def forward(self, x):
        f = self.drop(self.norm(self.conv(x)).relu().mean((3, 4)))
        if self.form == "frames":
            return self.head(f.transpose(1, 2))
        f = f.mean(2)
        return {"aux": self.aux(f), "logits": self.head(f)} if self.form == "dict" else self.head(f).softmax(1)

def made(form):
    torch.manual_seed(0)
    return Net(form)

def frames(): return made("frames")
def answers(): return made("dict")
def softmax(): return made("softmax")

def partly():
    net = made("softmax")
    net.conv.requires_grad_(False)
    return net

def closed(): return made("softmax").requires_grad_(False)
"""


@pytest.fixture(scope="module")
def factories(tmp_path_factory):
    path = tmp_path_factory.mktemp("outputs") / "forms.py"
    path.write_text(FACTORIES)
    return path


def test_the_notes_say_what_is_read(factories):
    target = load(f"{factories}:answers")
    assert (target.output.name, target.output.others) == ("logits", ("aux",))
    assert any("'logits' alone (not aux)" in note for note in target.fidelity.notes)
    other = load(f"{factories}:answers", model_output="aux")
    assert (other.output.name, other.output.others) == ("aux", ("logits",))
    frames = load(f"{factories}:frames")
    assert (frames.classes, frames.output.frames) == (5, 2)
    assert any("averaged over them" in note for note in frames.fidelity.notes)
    assert load(f"{factories}:frames", temporal_pool="last").output.frames == 0
    softmax = load(f"{factories}:softmax")
    assert softmax.output.activation == "softmax"
    assert softmax.dropout == 1
    with pytest.raises(UsageError, match="none of the model's 2 outputs; use aux, logits"):
        load(f"{factories}:answers", model_output="nothing")


def test_what_a_factory_freezes_is_told(factories):
    target = load(f"{factories}:partly")
    assert target.frozen == ("conv.weight", "conv.bias")
    assert any("freezes 2 of 8 parameters" in note for note in target.fidelity.notes)
    closed = load(f"{factories}:closed")
    assert closed.frozen == ()
    assert any("audited as trained" in note for note in closed.fidelity.notes)


def training_file(path, *, ratio=0.5, outputs=("logits", "aux")):
    """An ONNX file in training form: Conv, BatchNormalization, Dropout, and two heads."""
    g = torch.Generator().manual_seed(0)
    tensors = {
        "conv.weight": torch.randn(4, 3, 3, 3, 3, generator=g) / 9, "norm.weight": torch.rand(4, generator=g) + 0.5,
        "norm.bias": torch.rand(4, generator=g), "norm.mean": torch.rand(4, generator=g),
        "norm.var": torch.rand(4, generator=g) + 0.5, "head.weight": torch.randn(5, 4, generator=g),
        "aux.weight": torch.randn(5, 4, generator=g), "ratio": torch.tensor(ratio),
    }  # fmt: skip
    node = helper.make_node
    nodes = [
        node("Conv", ["clip", "conv.weight"], ["c"], pads=[1] * 6),
        node("BatchNormalization", ["c", "norm.weight", "norm.bias", "norm.mean", "norm.var"], ["n"], momentum=0.8),
        node("Relu", ["n"], ["r"]),
        node("GlobalAveragePool", ["r"], ["p"]),
        node("Flatten", ["p"], ["f"]),
        node("Dropout", ["f", "ratio"], ["d"]),
        node("Gemm", ["d", "head.weight"], ["logits"], transB=1),
        node("Gemm", ["d", "aux.weight"], ["aux"], transB=1),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes[: 6 + len(outputs)], "g", [value("clip", TensorProto.FLOAT, ["n", 3, 4, 8, 8])],
        [value(name, TensorProto.FLOAT, ["n", 5]) for name in outputs],
        [numpy_helper.from_array(v.numpy(), k) for k, v in tensors.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return tensors


def test_a_file_with_several_outputs_keeps_the_one_that_is_read(tmp_path):
    training_file(tmp_path / "m.onnx", outputs=("aux", "logits"))
    target = load(str(tmp_path / "m.onnx"))
    assert "head.weight" in target.parameters
    assert "aux.weight" not in target.parameters
    assert target.fidelity.parity_max_error is not None
    assert any("'logits' alone (not aux)" in note for note in target.fidelity.notes)
    other = load(str(tmp_path / "m.onnx"), model_output="0")
    assert "aux.weight" in other.parameters
    with pytest.raises(UsageError, match="use aux, logits"):
        load(str(tmp_path / "m.onnx"), model_output="nothing")


def test_dropout_and_buffers_of_a_file_are_those_of_a_training_step(tmp_path):
    tensors = training_file(tmp_path / "m.onnx", outputs=("logits",))
    target = load(str(tmp_path / "m.onnx"))
    assert target.dropout == 1
    clips, labels = torch.rand(2, 4, 3, 8, 8), torch.tensor([1, 3])
    names = tuple(target.parameters)
    protocol = FederatedProtocol(batch=2, sent=names, bn="train", dropout="on", send_buffers=True)
    update = observe(LocalClient(target.model, protocol, seed=5), clips, labels)

    leaf = {name: tensors[name].clone().requires_grad_() for name in names}
    c = F.conv3d(clips.transpose(1, 2), leaf["conv.weight"], padding=1)
    f = F.batch_norm(c, None, None, leaf["norm.weight"], leaf["norm.bias"], True).relu().mean((2, 3, 4))
    torch.manual_seed(5)
    loss = F.cross_entropy(F.dropout(f, 0.5) @ leaf["head.weight"].T, labels)
    for name, wanted in zip(names, torch.autograd.grad(loss, list(leaf.values())), strict=True):
        assert torch.allclose(update.gradients[name], wanted, rtol=1e-4, atol=1e-6), name
    rows = c.transpose(0, 1).flatten(1)
    expected = {
        "norm.mean": 0.8 * tensors["norm.mean"] + 0.2 * rows.mean(1),
        "norm.var": 0.8 * tensors["norm.var"] + 0.2 * rows.var(1, correction=0),
    }
    assert update.buffers.keys() == expected.keys()
    assert all(torch.allclose(update.buffers[k], v, rtol=1e-4, atol=1e-6) for k, v in expected.items())


def test_layers_whose_equal_statistics_were_merged_keep_buffers_of_their_own(tmp_path):
    w = torch.eye(3).reshape(3, 3, 1, 1, 1)
    tensors = {"one": torch.ones(3), "zero": torch.zeros(3), "w": w, "h": torch.rand(5, 3)}
    node = helper.make_node
    nodes = [
        node("Conv", ["clip", "w"], ["c"]),
        node("BatchNormalization", ["c", "one", "zero", "mean", "var"], ["n1"]),
        node("Relu", ["n1"], ["r"]),
        node("BatchNormalization", ["r", "one", "zero", "mean", "var"], ["n2"]),
        node("GlobalAveragePool", ["n2"], ["p"]),
        node("Flatten", ["p"], ["f"]),
        node("Gemm", ["f", "h"], ["logits"], transB=1),
    ]
    tensors |= {"mean": torch.full((3,), 0.1), "var": torch.full((3,), 0.9)}
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [value("clip", TensorProto.FLOAT, ["n", 3, 4, 8, 8])],
        [value("logits", TensorProto.FLOAT, ["n", 5])],
        [numpy_helper.from_array(v.numpy(), k) for k, v in tensors.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    target = load(str(tmp_path / "m.onnx"))
    protocol = FederatedProtocol(sent=tuple(target.parameters), bn="train", send_buffers=True)
    update = observe(LocalClient(target.model, protocol), torch.rand(1, 4, 3, 8, 8), torch.tensor([1]))
    assert sorted(update.buffers) == ["mean (n1)", "mean (n2)", "var (n1)", "var (n2)"]
