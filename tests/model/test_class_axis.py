"""The axis of classes is told by the last layer, whatever the order in which a net returns classes and time."""

import pytest
import torch
from refusals import fails
from torch import Tensor, nn
from zoo import export

from auditor.errors import NotAuditable, UsageError
from auditor.model import load

STEPS = 4

NETS = """
import torch
from torch import nn

class Net(nn.Module):
    input_shape, layout = (3, 4, 16, 16), "NCTHW"

    def __init__(self, form, classes):
        super().__init__()
        torch.manual_seed(0)
        self.form = form
        self.stem, self.conv = nn.Conv3d(3, 6, 3, (1, 2, 2), 1), nn.Conv1d(6, classes, 1)
        self.linear, self.gate = nn.Linear(6, classes), nn.Linear(6, 1)
        self.grid = nn.Linear(24, 15)

    def forward(self, x):
        f = self.stem(x).relu().mean((3, 4))
        if self.form == "class-time":
            return self.conv(f)
        if self.form == "time-class":
            return self.linear(f.transpose(1, 2))
        if self.form == "gated":
            return self.linear(f.transpose(1, 2)) * self.gate(f.transpose(1, 2)).sigmoid()
        if self.form == "gated-once":
            return (self.linear(f.transpose(1, 2)) * self.gate(f.transpose(1, 2)).sigmoid()).mean(1, keepdim=True)
        if self.form == "shares":
            return self.conv(f).softmax(1)
        if self.form == "ones":
            return self.conv(f).mean(2)[:, :, None, None, None]
        if self.form == "one-step":
            return self.conv(f).mean(2, keepdim=True)
        if self.form == "kept":
            return self.conv(f)[:, :, :, None, None]
        if self.form == "value a step":
            return self.gate(f.transpose(1, 2)).squeeze(-1)
        if self.form == "class-clip":
            return self.linear(f.mean(2)).T
        if self.form == "time-clip-class":
            return self.linear(f.transpose(1, 2)).transpose(0, 1)
        if self.form == "a loss":
            return self.linear(f.mean(2)).mean()
        if self.form == "no batch":
            return self.linear(f.mean(2)).mean(0)
        if self.form == "one layer for all":
            return self.grid(f.flatten(1)).view(-1, 5, 3)
        if self.form == "features first":
            pooled = f.mean(2)
            return pooled, self.linear(pooled)
        if self.form == "logits first":
            return self.linear(f.mean(2)), f.mean(2), self.linear(f.mean(2)).softmax(1)
        if self.form == "two heads":
            return {"action": self.linear(f.mean(2)), "place": self.gate(f.mean(2))}
        if self.form == "map":
            return self.conv(f)[:, :, None].expand(-1, -1, 3, -1)

def net(form, classes):
    return Net(form, classes)
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("axes") / "nets.py"
    path.write_text(NETS)
    return f"{path}:net"


@pytest.mark.parametrize("classes", [1, STEPS, 5])
@pytest.mark.parametrize("form", ["class-time", "time-class", "kept", "gated"])
def test_classes_and_steps_are_told_apart(form, classes, source) -> None:
    target = load(source, arg=(("form", form), ("classes", classes)))
    assert (target.classes, target.output.frames) == (classes, STEPS)
    clip = torch.rand(2, 4, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    raw = target.model.outputs(clip)
    expected = raw if form in ("time-class", "gated") else raw.reshape(2, classes, STEPS).transpose(1, 2)
    torch.testing.assert_close(target.model(clip), expected)
    told = any("classes along axis 1" in note for note in target.fidelity.notes)
    assert told == (form in ("class-time", "kept"))


@pytest.mark.parametrize(("form", "frames"), [("ones", 0), ("one-step", 0), ("gated-once", 1), ("shares", STEPS)])
def test_axes_of_one_entry_hold_no_classes(form, frames, source) -> None:
    target = load(source, arg=(("form", form), ("classes", 5)))
    assert (target.classes, target.output.frames) == (5, frames)


def test_a_map_of_classes_is_refused(source) -> None:
    fails(NotAuditable, "audit a classifier", source=source, arg=(("form", "map"), ("classes", 5)))


def test_one_value_a_step_is_no_class(source) -> None:
    target = load(source, arg=(("form", "value a step"), ("classes", 5)))
    assert (target.classes, target.output.frames) == (1, STEPS)
    assert any("Give --classes if they are classes" in note for note in target.fidelity.notes)
    told = load(source, arg=(("form", "value a step"), ("classes", 5)), classes=STEPS)
    assert (told.classes, told.output.frames) == (STEPS, 0)


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ("class-clip", ("(5, 1)", "classes come before clips")),
        ("no batch", ("(5,)", "no axis of clips")),
        ("a loss", ("a single number",)),
        ("time-clip-class", (f"({STEPS}, 1, 5)", "return clips first")),
    ],
)
def test_classes_where_clips_belong_are_refused_by_the_shape_that_is_returned(form, words, source) -> None:
    fails(NotAuditable, *words, source=source, arg=(("form", form), ("classes", 5)))


def test_what_no_layer_tells_is_asked(source) -> None:
    form = (("form", "one layer for all"), ("classes", 5))
    fails(UsageError, "(1, 5, 3)", "give --classes 3, or --classes 5", source=source, arg=form)
    assert load(source, arg=form, classes=3).output.frames == 5
    assert load(source, arg=form, classes=5).output.frames == 3


def test_features_beside_logits_are_asked_about(source) -> None:
    form = (("form", "features first"), ("classes", 5))
    fails(UsageError, "'0' and, made of it by 'linear.bias', '1'", "--model-output 1", source=source, arg=form)
    assert load(source, arg=form, model_output="1").classes == 5
    assert load(source, arg=(("form", "logits first"), ("classes", 5))).classes == 5


def test_parameters_of_another_head_are_not_said_to_be_cut(source) -> None:
    target = load(source, arg=(("form", "two heads"), ("classes", 5)))
    told = " ".join(target.fidelity.missing)
    assert "2 parameters lead to outputs that the loss does not read" in told
    assert "torch.no_grad" not in told


class Head(nn.Module):
    """An I3D head: a convolution gives the classes, and time is left."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.logits = nn.Conv3d(3, 6, 3, 2, 1), nn.Conv3d(6, STEPS, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(self.stem(x).relu().mean((3, 4), keepdim=True)).squeeze(3).squeeze(3)


@pytest.mark.parametrize("exporter", ["legacy", "dynamo"])
def test_an_export_is_read_the_same(exporter, tmp_path) -> None:
    """As many classes as steps: extents alone tell nothing."""
    torch.manual_seed(0)
    target = load(str(export(Head().eval(), tmp_path / "m.onnx", exporter, (3, 2 * STEPS, 16, 16))))
    clip = torch.rand(1, 2 * STEPS, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(target.model(clip), target.model.outputs(clip).transpose(1, 2))
