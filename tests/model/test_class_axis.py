"""The axis of classes is told by the last layer, whatever the order in which a net returns classes and time."""

import pytest
import torch
from refusals import fails
from torch import Tensor, nn
from zoo import export

from auditor.errors import NotAuditable
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
