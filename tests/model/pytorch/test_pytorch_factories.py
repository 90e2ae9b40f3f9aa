"""Factories: where they come from, what they are given, and what they may state."""

import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from refusals import fails

from auditor.errors import UsageError
from auditor.model import load
from auditor.named_paths import check_source

NETS = """
import torch
from torch import nn

class Net(nn.Module):
    input_shape = (3, 4, 8, 8)

    def __init__(self, width=4, classes=6, kind="conv", gated=False):
        super().__init__()
        self.options = (width, classes, kind, gated)
        self.conv = nn.Conv3d(3, width, 3)
        self.head = nn.Linear(width, classes)

    def forward(self, x):
        return self.head(self.conv(x).mean((2, 3, 4)))

def build(width, classes=6):
    return Net(width, classes)

def anything(**options):
    return Net(**options)

def positional(width, /):
    return Net(width)

def stating():
    net = Net()
    net.input_shape, net.layout, net.value_range = [8, 3, 4, 8], "NHWC", (0, 255)
    net.mean, net.std, net.classes = [1, 2, 3], 4.0, ["a", "b", "c", "d", "e", "f"]
    thick = lambda x: x.permute(0, 3, 1, 2)[:, :, None].expand(-1, -1, 3, -1, -1)
    net.forward = lambda x: net.head(net.conv(thick(x)).mean((2, 3, 4)))
    return net

def buffered():
    net = Net()
    net.register_buffer("mean", torch.ones(3))
    return net

def bad_layout():
    net = Net()
    net.layout = "CTHW"
    return net

def wrong_classes():
    net = Net()
    net.classes = 7
    return net

def bad_mean():
    net = Net()
    net.mean = "bright"
    return net

an_instance = Net()

def lazily():
    import neighbour_of_nets
    return Net(neighbour_of_nets.WIDTH)
"""


@pytest.fixture
def nets(tmp_path: Path) -> str:
    path = tmp_path / "nets_of_a_user.py"
    path.write_text(NETS)
    (tmp_path / "neighbour_of_nets.py").write_text("WIDTH = 5\n")
    return str(path)


def test_arguments_reach_the_factory(nets) -> None:
    given = (("width", 3), ("classes", 9), ("kind", "slow"), ("gated", True))
    target = load(f"{nets}:Net", arg=given)
    assert target.model.network.options == (3, 9, "slow", True)
    assert (target.classes, target.format, target.name) == (9, "pytorch", "Net")
    assert load(f"{nets}:anything", arg=given).classes == 9
    assert load(f"{nets}:build", arg=(("width", 2),)).parameters["conv.weight"].shape[0] == 2


def test_arguments_that_do_not_fit(nets) -> None:
    fails(
        UsageError, "no parameter 'widht'", "did you mean width?", "width, classes",
        source=f"{nets}:build", arg=(("widht", 3),),
    )  # fmt: skip
    fails(UsageError, "needs width", "--arg width=VALUE", source=f"{nets}:build")
    fails(UsageError, "'width' by position only", source=f"{nets}:positional", arg=(("width", 3),))
    fails(UsageError, "it has no parameters", source=f"{nets}:stating", arg=(("a", 1),))
    fails(UsageError, "raised TypeError", source=f"{nets}:anything", arg=(("depth", 1),))
    fails(UsageError, "is a network, not a function", source=f"{nets}:an_instance")


def test_modules_are_imported_from_the_current_folder(nets, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    package = tmp_path / "pack_of_a_user"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "inside.py").write_text("from nets_of_a_user import build\nimport a_module_that_is_missing\n")
    try:
        assert load("nets_of_a_user:build", arg=(("width", 2),)).classes == 6
        assert load("nets_of_a_user:lazily").parameters["conv.weight"].shape[0] == 5
        fails(UsageError, "did you mean build", source="nets_of_a_user:biuld")
        fails(UsageError, "there is no module nets_of_nobody", source="nets_of_nobody:build")
        fails(UsageError, "ModuleNotFoundError", "install what it imports", source="pack_of_a_user.inside:build")
        fails(UsageError, "there is no module", source="pack_of_a_user.outside:build")
    finally:
        for name in ("nets_of_a_user", "pack_of_a_user", "pack_of_a_user.inside", "neighbour_of_nets"):
            sys.modules.pop(name, None)
    assert sys.path == before


def test_a_file_imports_its_neighbours_while_the_factory_runs(nets) -> None:
    try:
        assert load(f"{nets}:lazily").parameters["conv.weight"].shape[0] == 5
    finally:
        sys.modules.pop("neighbour_of_nets", None)


def test_what_a_factory_states(nets) -> None:
    target = load(f"{nets}:stating", input_shape=(4, 8, 8, 3), layout="NHWC")
    spec = target.input
    assert (spec.layout, spec.frames, spec.height, spec.width, spec.channels) == ("NHWC", 4, 8, 8, 3)
    assert (spec.mean, spec.std, spec.value_range) == ((1.0, 2.0, 3.0), (4.0,), (0.0, 255.0))
    assert target.classes == 6
    plain = load(f"{nets}:Net")
    assert (plain.input.clip_shape, plain.input.origin) == ((4, 3, 8, 8), "stated by the factory")
    said = load(f"{nets}:stating", input_shape=(4, 8, 8, 3), mean=(0.5,), std=(0.25,), range=(0.0, 1.0)).input
    assert (said.mean, said.std, said.value_range) == ((0.5,), (0.25,), (0.0, 1.0))


def test_a_buffer_of_the_same_name_states_nothing(nets) -> None:
    target = load(f"{nets}:buffered")
    assert target.input.mean == (0.0,)
    assert any("own tensor 'mean'" in note and "--mean" in note for note in target.fidelity.notes)


def test_statements_that_make_no_sense(nets) -> None:
    fails(UsageError, "the layout of", "'CTHW'", "NCTHW", source=f"{nets}:bad_layout")
    fails(UsageError, "the mean of", source=f"{nets}:bad_mean")
    fails(UsageError, "6 classes, not 7", source=f"{nets}:wrong_classes")


LAYOUTS = """
import torch
from torch import nn

class Frames(nn.Module):
    def __init__(self, per_clip, frames=4):
        super().__init__()
        self.per_clip, self.frames = per_clip, frames
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 5)

    def forward(self, x):
        assert x.dim() == 4
        logits = self.head(self.conv(x).relu().mean((2, 3)))
        return logits.reshape(-1, self.frames, 5).mean(1) if self.per_clip else logits

def per_frame():
    return Frames(False)

def per_clip():
    return Frames(True)

class Volume(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv3d(3, 4, 3), nn.Linear(4, 5)

    def forward(self, x):
        return self.head(self.conv(x).relu().mean((2, 3, 4)))

def volume():
    return Volume()
"""


@pytest.fixture
def layouts(tmp_path: Path) -> str:
    path = tmp_path / "layouts.py"
    path.write_text(LAYOUTS)
    return str(path)


@pytest.mark.parametrize("pool", ["mean", "max", "last"])
def test_frames_in_the_batch_are_pooled(layouts, pool) -> None:
    target = load(f"{layouts}:per_frame", input_shape=(4, 3, 8, 8), layout="NCHW", temporal_pool=pool)
    clips = torch.rand(2, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    frames = torch.stack([target.model.network(clip) for clip in clips])
    expected = {"mean": frames.mean(1), "max": frames.amax(1), "last": frames[:, -1]}[pool]
    torch.testing.assert_close(target.model(clips), expected)
    assert target.fidelity.double_backward


def test_frames_in_the_batch_with_one_answer_a_clip(layouts) -> None:
    target = load(f"{layouts}:per_clip", input_shape=(4, 3, 8, 8), layout="NCHW")
    clips = torch.rand(2, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = torch.cat([target.model.network(clip) for clip in clips])
    assert expected.shape == (2, 5)
    torch.testing.assert_close(target.model(clips), expected)


def test_a_wrong_order_of_axes_is_told_with_the_right_one(layouts) -> None:
    fails(
        UsageError, "fails on a clip of shape (8, 3, 9, 9)", "--layout NCTHW --input-shape 3,8,9,9",
        source=f"{layouts}:volume", input_shape=(8, 3, 9, 9),
    )  # fmt: skip
    fails(
        UsageError, "--layout NCTHW --input-shape 3,8,9,9",
        source=f"{layouts}:volume", input_shape=(8, 3, 9, 9), layout="NCTHW",
    )  # fmt: skip
    text = fails(UsageError, "fails on a clip", source=f"{layouts}:volume", input_shape=(3, 2, 9, 9))
    assert "--layout NC" not in text


CASTS = """
import torch
from torch import nn
class Net(nn.Module):
    input_shape, layout = (3, 4, 8, 8), "NCTHW"
    def __init__(self, kind):
        super().__init__()
        self.kind, self.fc = getattr(torch, kind), nn.Linear(768, 5)
    def forward(self, x): return self.fc(x.to(self.kind).flatten(1))
def half(): return Net("half").half()
def double(): return Net("double").double()
"""


@pytest.mark.parametrize("name", ["half", "double"])
def test_a_forward_that_casts_clips_for_weights_of_another_type_is_told_how(name, tmp_path) -> None:
    (tmp_path / "net.py").write_text(CASTS)
    fails(UsageError, "float32 here", "next(self.parameters()).dtype", source=f"{tmp_path}/net.py:{name}")


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("def network(): return 1", True),
        ("globals()['net' + 'work' + 's'] = 1", False),
        ("from elsewhere import *", False),
        ("networks = 1", False),
        ("def broken(", False),
    ],
)
def test_a_name_is_refused_unread_only_where_no_line_may_define_it(text, refused, tmp_path) -> None:
    (tmp_path / "nets.py").write_text(text)
    with pytest.raises(UsageError, match="did you mean network") if refused else nullcontext():
        check_source(f"{tmp_path}/nets.py:networks")


UNUSUAL = """
import sys
import torch
from torch import nn
torch.set_grad_enabled(False)

def network():
    torch.set_default_dtype(torch.float64)
    made = nn.Sequential(nn.Flatten(), nn.Linear(768, 5))
    made.input_shape = (3, 4, 8, 8)
    return made

def exits(): sys.exit(3)

def without_numbers():
    with torch.device("meta"):
        return network()
"""


def test_what_a_file_sets_for_all_of_torch_and_how_it_ends_stay_its_own(tmp_path) -> None:
    (tmp_path / "nets.py").write_text(UNUSUAL)
    target = load(f"{tmp_path}/nets.py:network")
    assert (target.fidelity.blind, target.fidelity.double_backward) == ((), True)
    assert (torch.is_grad_enabled(), torch.get_default_dtype()) == (True, torch.float32)
    fails(UsageError, "raised SystemExit: 3", source=f"{tmp_path}/nets.py:exits")
    fails(UsageError, "meta device", source=f"{tmp_path}/nets.py:without_numbers")
    (tmp_path / "script.py").write_text("import sys\nsys.exit(0)\ndef network(): pass\n")
    fails(UsageError, "raised SystemExit: 0", source=f"{tmp_path}/script.py:network")
