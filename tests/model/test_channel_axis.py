"""Clips of any number of channels: the first convolution tells which axis they are."""

import io

import pytest
import torch
from refusals import fails

from auditor.errors import UsageError
from auditor.model import load

NETS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, channels, frames, order="NCTHW", frame_by_frame=False, first=None):
        super().__init__()
        torch.manual_seed(0)
        self.order, self.frame_by_frame = order, frame_by_frame
        self.first = nn.BatchNorm3d(channels) if first == "norm" else nn.Identity()
        self.conv = (nn.Conv2d if frame_by_frame else nn.Conv3d)(channels, 8, 3, 2, 1)
        self.head = nn.Linear(8, 5)
        extents = {"C": channels, "T": frames, "H": 16, "W": 16}
        self.input_shape = tuple(extents[axis] for axis in order[1:])

    def forward(self, x):
        x = x.permute(0, *(self.order.index(axis) for axis in "CTHW"))
        x = self.first(x)
        if self.frame_by_frame:
            f = self.conv(x.transpose(1, 2).flatten(0, 1)).relu().mean((2, 3))
            return self.head(f.view(len(x), -1, 8).mean(1))
        return self.head(self.conv(x).relu().mean((2, 3, 4)))

def net(**options): return Net(**options)
class Frames(nn.Sequential):
    def __init__(self, channels):
        pooled = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)
        super().__init__(nn.Conv2d(channels, 8, 3, 2, 1), nn.ReLU(), *pooled)
        self.input_shape = (channels, 16, 16)
def frames(channels): return Frames(channels)
"""
READ = (
    ("NCTHW", {"channels": 5, "frames": 8}),
    ("NTCHW", {"channels": 6, "frames": 8, "order": "NTCHW", "first": "norm"}),
    ("NTHWC", {"channels": 4, "frames": 8, "order": "NTHWC", "frame_by_frame": True}),
    ("NTCHW", {"channels": 2, "frames": 4, "order": "NTCHW", "frame_by_frame": True}),
    ("NCTHW", {"channels": 17, "frames": 6}),
    ("NCTHW", {"channels": 3, "frames": 5}),
)


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("channels") / "nets.py"
    path.write_text(NETS)
    return str(path)


@pytest.mark.parametrize(("layout", "options"), READ)
def test_any_number_of_channels_is_read(layout, options, source) -> None:
    spec = load(f"{source}:net", arg=tuple(options.items())).input
    assert (spec.layout, spec.channels, spec.frames) == (layout, options["channels"], options["frames"])


@pytest.mark.filterwarnings("ignore")
def test_so_it_is_of_an_onnx_file(source, tmp_path) -> None:
    namespace: dict = {}
    exec(NETS, namespace)
    for layout, options in READ[1:3]:
        network = namespace["net"](**options).eval()
        content = io.BytesIO()
        torch.onnx.export(network, (torch.rand(1, *network.input_shape),), content, dynamo=False, opset_version=13)
        path = tmp_path / f"{layout}.onnx"
        path.write_bytes(content.getvalue())
        spec = load(str(path)).input
        assert (spec.layout, spec.channels) == (layout, options["channels"])


@pytest.mark.parametrize(
    ("options", "layout", "hint"),
    [
        ({"channels": 2, "frames": 3}, "NCTHW", "give --layout NCTHW, or"),
        ({"channels": 6, "frames": 3, "order": "NTCHW"}, "NTCHW", "give --layout NTCHW, or"),
        ({"channels": 8, "frames": 8}, "NCTHW", "give --layout (NCTHW"),
    ],
)
def test_what_is_not_certain_is_asked_in_a_line_that_works(options, layout, hint, source) -> None:
    asked = {"source": f"{source}:net", "arg": tuple(options.items())}
    with pytest.raises(UsageError) as raised:
        load(**asked)
    assert hint in raised.value.remedy
    assert load(**asked, layout=layout).input.channels == options["channels"]


def test_one_frame_of_flow_is_read_and_stacked_colours_are_asked_about(source) -> None:
    spec = load(f"{source}:frames", arg=(("channels", 10),)).input
    assert (spec.layout, spec.channels, spec.frames) == ("NCHW", 10, 1)
    fails(UsageError, "is not certain", "stacked", source=f"{source}:frames", arg=(("channels", 15),))
