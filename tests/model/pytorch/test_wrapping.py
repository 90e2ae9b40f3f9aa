"""Factories whose networks do not take one clip: the message shows the module that would, and that module works."""

import re

import pytest
from refusals import fails

from auditor.errors import UsageError
from auditor.model import load

NETS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, form):
        super().__init__()
        self.form, self.head = form, nn.Linear(3 * 8 * 8 * 8, 5)
        self.plane, self.slow = nn.Conv2d(24, 24, 1), nn.Linear(3 * 2 * 8 * 8, 5)

    def forward(self, x):
        if self.form == "crops":
            assert x.dim() == 6
            return self.head(x.flatten(2)).mean(1)
        if self.form == "stacked":
            return self.head(self.plane(x).flatten(1))
        if self.form == "list":
            assert isinstance(x, list)
            return self.head(x[0].flatten(1))
        if self.form == "bytes":
            assert x.dtype is torch.uint8
            return self.head(x.float().flatten(1) / 255)
        if self.form == "dict":
            return self.head(x["video"].flatten(1))
        if self.form == "dict with a choice":
            return self.head((x["frames"] if "frames" in x else x["video"]).flatten(1))
        if self.form == "trailing axis":
            return self.head(x.squeeze(-1).flatten(1) + 0 * x.shape[5])
        if self.form == "checked":
            assert bool(x.max() > 1)
            return self.head(x.flatten(1) / 255)
        slow, fast = x
        return self.slow(slow.flatten(1)) + self.head(fast.flatten(1))

class Two(Net):
    def forward(self, x, audio, mask=None):
        return self.head(x.flatten(1)) + audio.sum()

class Wrapped(nn.Module):
    def __init__(self, form):
        super().__init__()
        self.net = Net(form)

    def forward(self, x): return WAY

def bare(form): return Net(form)
def wrapped(form): return Wrapped(form)
def two(): return Two("plain")

class Named(Net):
    def forward(self, *, pixel_values):
        return self.head(pixel_values.flatten(1))

class Dictionary(Net):
    def forward(self, batch):
        return self.head(batch["video"].flatten(1)) * batch["mask"].mean()

class Nothing(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 5)

class Passing(Wrapped):
    def __init__(self):
        super().__init__("plain")
        self.net = Named("plain")

def named(): return Named("plain")
def passing(): return Passing()
def dictionary(): return Dictionary("plain")
def nothing(): return Nothing()
"""
SHAPE = (3, 8, 8, 8)
CLIPS = ("crops", "stacked", "pathways", "list")


@pytest.mark.parametrize("form", [*CLIPS, "bytes", "dict", "dict with a choice", "trailing axis"])
def test_the_module_that_is_shown_works(form, tmp_path) -> None:
    (tmp_path / "nets.py").write_text(NETS)
    given = {"input_shape": SHAPE, "layout": "NCTHW", "arg": (("form", form),)}
    text = fails(UsageError, "def forward(self, x)", source=f"{tmp_path / 'nets.py'}:bare", **given)
    way = re.search(r"return (self\.net\(.*\)); see", text)
    assert way is not None
    (tmp_path / "nets.py").write_text(NETS.replace("WAY", way[1]))
    assert load(f"{tmp_path / 'nets.py'}:wrapped", **given).classes == 5


def test_a_network_that_refuses_pixels_below_one_gets_the_range_that_works(tmp_path) -> None:
    (tmp_path / "nets.py").write_text(NETS)
    given = {"source": f"{tmp_path / 'nets.py'}:bare", "layout": "NCTHW", "arg": (("form", "checked"),)}
    fails(UsageError, "give --range 0,255", **given, input_shape=SHAPE)
    assert load(**given, input_shape=SHAPE, range=(0.0, 255.0)).classes == 5


def test_inputs_beside_the_clip_are_named(tmp_path) -> None:
    (tmp_path / "nets.py").write_text(NETS)
    source = f"{tmp_path / 'nets.py'}:two"
    fails(UsageError, "needs 2 inputs (x, audio)", "self.net(x, ", source=source, input_shape=SHAPE)


def test_an_input_by_name_only_gets_the_module_that_passes_it_on(tmp_path) -> None:
    (tmp_path / "nets.py").write_text(NETS)
    given = {"input_shape": SHAPE, "layout": "NCTHW"}
    text = fails(UsageError, "takes 'pixel_values' by name only", source=f"{tmp_path / 'nets.py'}:named", **given)
    way = re.search(r"return (self\.net\(.*\)); see", text)
    assert way is not None
    (tmp_path / "nets.py").write_text(NETS.replace("WAY", way[1]))
    assert load(f"{tmp_path / 'nets.py'}:passing", **given).classes == 5


def test_what_reads_a_dict_and_what_has_no_forward_are_told_so(tmp_path) -> None:
    (tmp_path / "nets.py").write_text(NETS)
    given = {"input_shape": SHAPE, "layout": "NCTHW"}
    fails(UsageError, "for what reads a dict", source=f"{tmp_path / 'nets.py'}:dictionary", **given)
    fails(UsageError, "has no forward", source=f"{tmp_path / 'nets.py'}:nothing", **given)
