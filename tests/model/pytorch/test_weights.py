"""Weights files: how training programs wrap and name them, and what does not fit."""

import argparse
import json
import os
import pickle
import shlex
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
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
        lambda s: {k.replace(".", "._checkpoint_wrapped_module.", 1): v for k, v in s.items()},
        lambda s: {k.replace(".", "._fsdp_wrapped_module._orig_mod.", 1): v for k, v in s.items()},
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
    torch.save({**prefixed(state, "model."), "extra.weight": torch.ones(2, 2)}, path)
    fails(UsageError, "1 unexpected (extra.weight)", source=factory, weights=path)
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


# ------------------------------------------------------------------------------------ what programs of training write


class Settings(dict):
    """A mapping of a class that nobody else can import."""


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: {"round": 3, "global_model": s},
        lambda s: {"server": {"round": 3, "aggregate": prefixed(s, "module.")}, "clients": {"seen": 4}},
        lambda s: {"fl": s, "opt": {"state": {0: {"step": torch.ones(1)}}, "param_groups": []}},
        lambda s: {"state_dict": s, "hyper_parameters": argparse.Namespace(lr=0.1)},
        lambda s: {"state_dict": s, "best": np.float64(0.7), "seen": np.arange(3)},
        lambda s: Settings(state_dict=s, path=Path("here"), best=np.float32(1), seen=defaultdict(list, a=[1])),
    ],
)  # fmt: skip
def test_checkpoints_with_more_than_weights(wrap, state, factory, trained, tmp_path) -> None:
    path = tmp_path / "w.ckpt"
    torch.save(wrap(state), path)
    assert load(factory, weights=path).sha256 == trained.sha256


def test_objects_beside_the_weights_are_named_and_not_built(state, factory, tmp_path) -> None:
    class_path = f"{Settings.__module__}.Settings"
    torch.save({"state_dict": state, "settings": Settings(lr=1)}, tmp_path / "w.ckpt")
    notes = load(factory, weights=tmp_path / "w.ckpt").fidelity.notes
    assert any("left out unread" in note and class_path in note for note in notes)


def test_several_sets_of_weights_are_a_question(state, factory, tmp_path) -> None:
    torch.save({"student": state, "teacher": state}, tmp_path / "w.pt")
    fails(NotAuditable, "2 sets", "['student']", source=factory, weights=tmp_path / "w.pt")


def test_two_networks_under_prefixes_get_the_line_that_saves_one(state, factory, trained, tmp_path) -> None:
    both = prefixed(state, "student.") | prefixed(state, "teacher.")
    torch.save({"state_dict": both}, tmp_path / "w.pt")
    text = fails(UsageError, "'student.' (or of teacher.)", source=factory, weights=tmp_path / "w.pt")
    line = text[text.index("torch.save(") :].replace("'weights.pt'", "path")
    exec(line, {"torch": torch, "state": both, "path": tmp_path / "one.pt"})
    assert load(factory, weights=tmp_path / "one.pt").sha256 == trained.sha256


def test_the_line_for_a_pickled_model_works_for_a_checkpoint_too(state, factory, trained, tmp_path) -> None:
    torch.save({"epoch": 1, "model": nn.Sequential(nn.Conv3d(3, 4, 3))}, tmp_path / "w.pt")
    text = fails(NotAuditable, "python -c", source=factory, weights=tmp_path / "w.pt")
    line = text[text.index("python -c") : text.index(", and give that")]
    command = [sys.executable, "-W", "ignore", *shlex.split(line)[1:]]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=120)
    assert list(read_weights(tmp_path / "weights.pt").state) == ["0.weight", "0.bias"]


@pytest.mark.parametrize("names", ["numbered", "named", "without counters", "parameters"])
def test_arrays_of_numpy(names, state, factory, trained, tmp_path) -> None:
    """Flower's servers write the arrays without names, in the order of the state."""
    own = dict(trained.model.named_parameters())
    kept = {
        name: value.detach().numpy()
        for name, value in state.items()
        if not (names == "without counters" and "num_batches" in name) and (names != "parameters" or name in own)
    }
    path = tmp_path / "w.npz"
    np.savez(path, **kept) if names == "named" else np.savez(path, *kept.values())
    found = load(factory, weights=path)
    assert all(torch.equal(found.parameters[name], own[name]) for name in own)
    assert any("no buffers" in note for note in found.fidelity.notes) == (names == "parameters")
    torch.save([torch.from_numpy(value) for value in kept.values()], tmp_path / "w.pt")
    load(factory, weights=tmp_path / "w.pt")


def test_arrays_that_do_not_fit_or_are_no_numbers(state, factory, tmp_path) -> None:
    values = [value.numpy() for value in state.values()]
    np.savez(tmp_path / "w.npz", *reversed(values))
    fails(UsageError, "number 0 is", "'0.weight'", source=factory, weights=tmp_path / "w.npz")
    np.savez(tmp_path / "w.npz", np.array([Path("x")], dtype=object))
    fails(NotAuditable, "Python objects", source=factory, weights=tmp_path / "w.npz")
    np.savez(tmp_path / "w.npz", *values)
    content = (tmp_path / "w.npz").read_bytes()
    (tmp_path / "w.npz").write_bytes(content.replace(b"'shape': (4, 3, 3, 3, 3)", b"'shape': (9, 9, 9, 9, 9)"))
    fails(NotAuditable, "damaged", source=factory, weights=tmp_path / "w.npz")


@pytest.mark.parametrize(
    ("prefix", "extras", "fits"),
    [
        ("model.", {"criterion.weight": (6,), "acc.confmat": (6, 6)}, True),
        ("model.", {"val_f1.tp": (6,), "temperature": ()}, True),
        ("", {"loss_fn.pos_weight": (6,), "metrics.total": ()}, True),
        ("model.", {"head.weight": (6, 4), "head.bias": (6,)}, False),
        ("", {"5.weight": (6, 4)}, False),
    ],
)
def test_losses_and_metrics_beside_a_whole_network(prefix, extras, fits, state, factory, trained, tmp_path) -> None:
    path = tmp_path / "w.ckpt"
    extra = {name: torch.ones(shape) for name, shape in extras.items()}
    torch.save({"state_dict": {**prefixed(state, prefix), **extra}}, path)
    if not fits:
        fails(UsageError, "unexpected", source=factory, weights=path)
        return
    found = load(factory, weights=path)
    assert found.sha256 == trained.sha256
    assert any("Left out of the weights" in note and next(iter(extras)) in note for note in found.fidelity.notes)


def test_folders_say_what_to_give(state, factory, tmp_path) -> None:
    fails(UsageError, "but a folder", "give a .safetensors", source=factory, weights=tmp_path)
    save_file(state, tmp_path / "model.safetensors")
    fails(UsageError, "model.safetensors", source=factory, weights=tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    fails(UsageError, "PeftModel.from_pretrained", source=factory, weights=tmp_path)
    fails(UsageError, "PeftModel.from_pretrained", source=str(tmp_path))


def test_arrays_inside_a_checkpoint_are_weights(state, factory, trained, tmp_path) -> None:
    """A server that keeps arrays of NumPy pickles them: their numbers are read, their classes are not."""
    arrays = {name: np.asarray(value.numpy(), order="F") for name, value in state.items()}
    for content in ({"round": 3, "global_model": arrays}, list(arrays.values()), {"model": {"weights": arrays}}):
        torch.save(content, tmp_path / "w.pt")
        assert load(factory, weights=tmp_path / "w.pt").sha256 == trained.sha256


def test_what_is_no_weights_file_is_told_so(factory, tmp_path) -> None:
    files = {
        "w.txt": b"lr = 0.1",
        "w.npy": b"\x93NUMPY\x01\x00",
        "w.gz": b"\x1f\x8b\x08",
        "w.tar": b"0" * 257 + b"ustar",
    }
    words = {"w.npy": "numpy.savez", "w.gz": "unpack it and give the weights", "w.tar": "unpack it"}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        text = fails(
            NotAuditable, "state dict", words.get(name, "save it again"), source=factory, weights=tmp_path / name
        )
        assert "give a model" not in text


def test_a_checkpoint_that_holds_itself_ends(factory, tmp_path) -> None:
    inside: list[object] = [argparse.Namespace()]
    inside += [inside] * 50
    around: dict[str, object] = {"settings": inside}
    around |= {str(i): around for i in range(50)}
    torch.save(around, tmp_path / "w.pt")
    fails(NotAuditable, "Python objects", source=factory, weights=tmp_path / "w.pt")
    deep: dict[str, object] = {}
    for _ in range(60):
        deep = {"inside": deep}
    torch.save(deep, tmp_path / "w.pt")
    fails(NotAuditable, "no named tensors", source=factory, weights=tmp_path / "w.pt")


def assert_same(target: Target, trained: Target) -> None:
    expected = trained.parameters
    assert all(torch.equal(value, expected[name]) for name, value in target.parameters.items())


@pytest.mark.parametrize(
    ("wrap", "note"),
    [
        (lambda s: {k: v for k, v in s.items() if "running" not in k and "tracked" not in k}, "hold no buffers: 3"),
        (lambda s: {**s, "0.total_ops": torch.zeros(1), "total_params": torch.zeros(1)}, "no such part"),
        (lambda s: {**s, "4.weight": s["4.weight"].to_sparse()}, ""),
        (lambda s: {**s, **{f"ema_{k.replace('.', '')}": v for k, v in s.items()}}, "no such part"),
        (lambda s: (s, {"lr": 0.1}), "are '0' of the file"),
        (lambda s: {"round": 3, "clients": [s]}, "are 'clients' of the file"),
    ],
)
def test_forms_that_servers_and_tools_save(wrap, note, state, factory, trained, tmp_path) -> None:
    torch.save(wrap(state), tmp_path / "w.pt")
    target = load(factory, weights=tmp_path / "w.pt")
    assert_same(target, trained)
    assert note in " ".join(target.fidelity.notes)


def test_weights_with_some_of_the_buffers_do_not_fit(state, factory, tmp_path) -> None:
    torch.save({key: value for key, value in state.items() if "running_var" not in key}, tmp_path / "w.pt")
    fails(UsageError, "1 missing (1.running_var)", source=factory, weights=tmp_path / "w.pt")


def test_a_list_of_states_is_a_question_with_the_way_to_one(state, factory, tmp_path) -> None:
    torch.save({"clients": [state, state]}, tmp_path / "w.pt")
    fails(NotAuditable, "2 sets", "torch.load(FILE)['clients'][0]", source=factory, weights=tmp_path / "w.pt")


def test_the_line_for_a_plain_pickle_works(state, factory, trained, tmp_path) -> None:
    with (tmp_path / "w.pkl").open("wb") as stream:
        pickle.dump([value.numpy() for value in state.values()], stream)
    text = fails(NotAuditable, "pickled without torch.save", source=factory, weights=tmp_path / "w.pkl")
    line = text[text.index("python -c") : text.index(", and give weights.pt")]
    command = [sys.executable, *shlex.split(line)[1:]]
    subprocess.run(command, cwd=tmp_path, check=True, env={**os.environ, "PYTHONPATH": ""})
    assert_same(load(factory, weights=tmp_path / "weights.pt"), trained)


def test_an_empty_file_is_told_so(factory, tmp_path) -> None:
    (tmp_path / "w.pt").touch()
    fails(NotAuditable, "w.pt is empty", source=factory, weights=tmp_path / "w.pt")
