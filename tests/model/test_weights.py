"""Weights files: how training programs wrap and name them, and what does not fit."""

import json
import os
from pathlib import Path

import pytest
import torch
import torchvision
from refusals import fails
from safetensors.torch import save_file
from torch import nn

from auditor.errors import NotAuditable, UsageError
from auditor.model import load
from auditor.model.pytorch.weights import read_weights
from auditor.records import Target

NET = """
from torch import nn

def factory(classes=6):
    ends = nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, classes)
    net = nn.Sequential(nn.Conv3d(3, 4, 3), nn.BatchNorm3d(4), *ends)
    net.input_shape = (3, 4, 8, 8)
    return net
"""


@pytest.fixture(scope="module")
def factory(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("net") / "net.py"
    path.write_text(NET)
    return f"{path}:factory"


@pytest.fixture(scope="module")
def trained(factory: str) -> Target:
    return load(factory, seed=5)


@pytest.fixture
def state(trained: Target) -> dict[str, torch.Tensor]:
    return dict(trained.model.state_dict())


def prefixed(state: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + key: value for key, value in state.items()}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: {"model": s, "optimizer": {"state": {}}, "epoch": 3},
        lambda s: {"state_dict": prefixed(s, "model."), "hyper_parameters": {"lr": 0.1}},
        lambda s: {"state_dict": prefixed(s, "model.module.")},
        lambda s: {"checkpoint": 1, "model": {"state_dict": prefixed(s, "module.")}},
        lambda s: prefixed(s, "_orig_mod."),
        lambda s: prefixed(s, "module._orig_mod."),
        lambda s: prefixed(s, "_orig_mod.module."),
        lambda s: prefixed(s, "learner.backbone."),
    ],
)  # fmt: skip
def test_wrappers_and_prefixes(wrap, state, factory, trained, tmp_path) -> None:
    path = tmp_path / "w.ckpt"
    torch.save(wrap(state), path)
    assert load(factory, weights=path).sha256 == trained.sha256


def test_legacy_saves(state, factory, trained, tmp_path) -> None:
    path = tmp_path / "w.pth"
    torch.save(state, path, _use_new_zipfile_serialization=False)
    assert path.read_bytes()[:1] == b"\x80"
    assert load(factory, weights=path).sha256 == trained.sha256


def test_averaged_copies(state, factory, trained, tmp_path) -> None:
    path = tmp_path / "w.pt"
    other = {key: value * 2 for key, value in state.items()}
    torch.save({"model": state, "model_ema": other}, path)
    found = load(factory, weights=path)
    assert found.sha256 == trained.sha256
    assert any("'model_ema' was left out" in note for note in found.fidelity.notes)
    torch.save({"model_ema": other}, path)
    found = load(factory, weights=path)
    assert torch.equal(found.parameters["0.weight"], other["0.weight"])
    assert any("averaged ones" in note for note in found.fidelity.notes)
    torch.save({**prefixed(state, "model."), **prefixed(other, "ema_model.module.")}, path)
    found = load(factory, weights=path)
    assert found.sha256 == trained.sha256
    assert any("left out" in note for note in found.fidelity.notes)
    # torch.optim.swa_utils.AveragedModel
    torch.save({"n_averaged": torch.tensor(3), **prefixed(other, "module.")}, path)
    assert torch.equal(load(factory, weights=path).parameters["0.weight"], other["0.weight"])


def test_all_or_nothing(state, factory, tmp_path) -> None:
    path = tmp_path / "w.pt"
    torch.save({**prefixed(state, "model."), "criterion.weight": torch.ones(2)}, path)
    fails(UsageError, "1 unexpected (criterion.weight)", source=factory, weights=path)
    renamed = dict(state)
    renamed["4.weights"] = renamed.pop("4.weight")
    torch.save(renamed, path)
    fails(UsageError, "1 missing (4.weight)", "rename in them e.g. 4.weights as 4.weight", source=factory, weights=path)
    torch.save({key: value for key, value in state.items() if "num_batches" not in key}, path)
    load(factory, weights=path)


def test_another_number_of_classes(state, factory, tmp_path) -> None:
    path = tmp_path / "w.pt"
    torch.save({**state, "4.weight": torch.ones(9, 4), "4.bias": torch.ones(9)}, path)
    fails(UsageError, "(9,), the model has (6,)", "for 9 classes", "--arg", source=factory, weights=path)
    load(factory, weights=path, arg=(("classes", 9),))
    torch.save(torchvision.models.mobilenet_v3_small(num_classes=4).state_dict(), path)
    fails(
        UsageError, "give --classes 4",
        source="torchvision:mobilenet_v3_small", weights=path, input_shape=(1, 3, 32, 32),
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------------------- shards


def sharded(state: dict[str, torch.Tensor], folder: Path) -> Path:
    """Write two shards and their index."""
    names = sorted(state)
    places = {name: f"part-{int(i >= len(names) // 2)}.safetensors" for i, name in enumerate(names)}
    for place in set(places.values()):
        save_file({name: state[name] for name in names if places[name] == place}, folder / place)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return index


def test_shards(state, factory, trained, tmp_path) -> None:
    assert load(factory, weights=sharded(state, tmp_path)).sha256 == trained.sha256


@pytest.mark.parametrize("place", ["../outside.safetensors", "/etc/hostname", "link.safetensors", "", 3])
def test_shards_elsewhere(place, state, factory, tmp_path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    index = sharded(state, home)
    save_file(state, tmp_path / "outside.safetensors")
    os.symlink(tmp_path / "outside.safetensors", home / "link.safetensors")
    content = json.loads(index.read_text())
    content["weight_map"] = dict.fromkeys(content["weight_map"], place)
    index.write_text(json.dumps(content))
    fails(NotAuditable, source=factory, weights=index)


def test_shards_that_are_missing_or_differ(state, factory, tmp_path) -> None:
    index = sharded(state, tmp_path)
    save_file({"other": torch.ones(1)}, tmp_path / "part-1.safetensors")
    fails(NotAuditable, "does not hold what the index", source=factory, weights=index)
    torch.save(nn.Linear(1, 1), tmp_path / "part-1.safetensors")
    fails(NotAuditable, "Python objects", source=factory, weights=index)
    (tmp_path / "part-1.safetensors").unlink()
    fails(NotAuditable, "missing", source=factory, weights=index)


class Runs:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("new", [True, False])
def test_code_in_weights_never_runs(new, tmp_path) -> None:
    path, left = tmp_path / "w.pt", tmp_path / "left"
    torch.save({"w": torch.ones(1), "x": Runs(left)}, path, _use_new_zipfile_serialization=new)
    with pytest.raises(NotAuditable, match="Python objects"):
        read_weights(path)
    assert not left.exists()
