"""`fl-audit attack --update`: an update from files, whose clip only the test knows."""

import argparse
import functools
import json
import math
import os
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from conformity import conforms
from error_lines import error_after_progress
from safetensors.torch import save_file

import auditor
from auditor.federated import LocalClient
from auditor.pipeline.single_attack import run as single_attack
from auditor.pipeline.single_attack.files import RESULT
from auditor.probe import moving_texture, shipped_probes
from auditor.records import FederatedProtocol

NETS = """
import torch
from torch import nn

def flat():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(4 * 3 * 8 * 8, 6))

def conv():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv3d(3, 8, 3, padding=1, stride=(1, 2, 2)), nn.BatchNorm3d(8), nn.GELU(), nn.Flatten(),
        nn.Linear(8 * 4 * 4 * 4, 6)
    )
"""
SHAPE = ("--input-shape", "3,4,8,8", "--layout", "NCTHW", "--device", "cpu")
FEDAVG = ("--algorithm", "fedavg", "--local-epochs", "2", "--learning-rate", "0.1")
LABEL = 2


@pytest.fixture
def run(run, tmp_path):
    """Run `fl-audit attack ARGS` in this process, beside nets.py; return code, stdout, stderr."""
    (tmp_path / "nets.py").write_text(NETS)
    return functools.partial(run, "attack")


class Sent:
    """What a client of one of the nets sends for a clip that stays in this test."""

    def __init__(self, net: str, folder: Path, algorithm: str = "FedSGD", clip: str = "hand_box") -> None:
        target = auditor.load(f"{folder / 'nets.py'}:{net}", input_shape=(3, 4, 8, 8), layout="NCTHW", device="cpu")
        self.truth = next(p for p in shipped_probes(target.input) if p.name == clip).clip
        protocol = FederatedProtocol(
            algorithm=algorithm, sent=tuple(target.parameters), local_epochs=2, learning_rate=0.1
        )
        client = LocalClient(target.model, protocol, classes=target.classes)
        self.gradients = dict(client.update(self.truth[None], torch.tensor([LABEL])).gradients)
        self.state = {name: value.detach() for name, value in target.model.state_dict().items()}
        self.after = {name: v - self.gradients[name] if name in self.gradients else v for name, v in self.state.items()}

    def arrays(self) -> dict[str, np.ndarray]:
        return {name: g.numpy() for name, g in self.gradients.items()}

    def decibels(self, folder: Path) -> float:
        with np.load(folder / "arrays.npz") as arrays:
            made = arrays["reconstruction"][0].astype(np.float64)
        return -10 * math.log10(max(1e-12, float(((made - self.truth.numpy()) ** 2).mean())))


def test_a_gradient_gives_the_clip_back_with_certificates_and_without_scores(run, tmp_path):
    (tmp_path / "nets.py").write_text(NETS)
    sent = Sent("flat", tmp_path)
    np.savez("seen.npz", **sent.arrays())
    code, out, err = run("nets.py:flat", *SHAPE, "--attack", "linear-input", "--update", "seen.npz", "--json")
    assert code == 0, err
    found = json.loads(out, parse_constant=pytest.fail)
    conforms(found, "captured")
    assert json.loads((tmp_path / "fl-audit-attack" / RESULT).read_text()) == found
    assert sent.decibels(tmp_path / "fl-audit-attack") > 60
    assert found["labels"] == [LABEL]
    assert found["knowledge"]["labels_from"].startswith("restored from the update by")
    assert found["residual"] < 1e-5 < 0.1 < min(found["unrelated"])
    assert found["proof"]["code"] == "REPRODUCED"
    assert not {"score", "grade", "null", "clip"} & found.keys()
    assert sorted(p.name for p in (tmp_path / "fl-audit-attack").iterdir()) == [
        "arrays.npz", "reconstruction", "reconstruction.apng", "result.json", "strip.png",
    ]  # fmt: skip
    assert [(m["name"], m["how"]) for m in found["update"]["matched"]] == [("1.weight", "name"), ("1.bias", "name")]
    code, out, err = run("nets.py:flat", *SHAPE, "--attack", "linear-input", "--update", "seen.npz")
    assert code == 2
    assert "add --force" in error_after_progress(err)
    # Python's `attack` is the command.
    same = {"input_shape": "3,4,8,8", "layout": "NCTHW", "device": "cpu", "attack": "linear-input"}
    made = auditor.attack("nets.py:flat", update="seen.npz", **same)
    with np.load(tmp_path / "fl-audit-attack" / "arrays.npz") as arrays:
        np.testing.assert_array_equal(made.clips.numpy(), arrays["reconstruction"])
    assert (made.proof.name, made.residual) == (found["proof"]["code"], pytest.approx(found["residual"], rel=1e-4))
    with pytest.raises(auditor.UsageError, match="--before was given without --after"):
        auditor.attack("nets.py:flat", before="seen.npz", **same)
    with pytest.raises(auditor.UsageError, match="--clip"):
        auditor.attack("nets.py:flat", update="seen.npz", clip="hand_box", **same)


def write_flower(sent: Sent, path: Path) -> None:
    np.savez(path, *(value.numpy() for value in sent.after.values()))


def write_flower_parameters(sent: Sent, path: Path) -> None:
    np.savez(path, *(sent.after[name].numpy() for name in sent.gradients))


def write_nvflare(sent: Sent, path: Path) -> None:
    data = {name: (sent.after[name] - sent.state[name]).numpy() for name in sent.gradients}
    with path.open("wb") as stream:
        torch.save({"data_kind": "WEIGHT_DIFF", "data": data, "meta": {"NUM_STEPS_CURRENT_ROUND": 2}}, stream)


def write_nvflare_weights(sent: Sent, path: Path) -> None:
    data = {name: value.numpy() for name, value in sent.after.items()}
    with path.open("wb") as stream:
        torch.save({"DXO": {"kind": "WEIGHTS", "data": data, "meta": {}}}, stream)


def write_compiled(sent: Sent, path: Path) -> None:
    save_file({f"module._orig_mod.{name}": value.contiguous() for name, value in sent.after.items()}, path)


@pytest.mark.parametrize(
    ("write", "kind", "how"),
    [
        (write_flower, "weights", "order"),
        (write_flower_parameters, "weights", "order"),
        (write_nvflare, "difference", "name"),
        (write_nvflare_weights, "weights", "name"),
        (write_compiled, "weights", "renamed"),
    ],
)
def test_files_of_frameworks_are_attacked_to_the_same_decibels_as_in_an_audit(
    run, tmp_path, monkeypatch, write, kind, how
):
    """The same attack on the same update, inside the audit that knows the clip and on the file alone."""
    # Searches start at noise that is drawn from the name of the clip, which a file does not have: worth 0.3 dB here.
    monkeypatch.setattr(single_attack, "unit_seed", lambda *named: 7)
    (tmp_path / "nets.py").write_text(NETS)
    sent = Sent("conv", tmp_path, "FedAvg")
    write(sent, tmp_path / "seen.npz")
    choices = ("nets.py:conv", *SHAPE, *FEDAVG, "--attack", "gradient-matching", "--steps", "60")
    code, out, err = run(*choices, "--update", "seen.npz", "--out", "file", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["update"]["kind"] == kind
    assert {m["how"] for m in found["update"]["matched"]} == {how}
    assert found["protocol"]["sent"] == len(sent.gradients)
    code, out, err = run(*choices, "--clip", "hand_box", "--label", str(LABEL), "--out", "audit", "--json")
    assert code == 0, err
    inside = sent.decibels(tmp_path / "audit")
    assert inside == pytest.approx(json.loads(out)["score"]["psnr"], abs=0.5)
    assert inside > 25
    assert sent.decibels(tmp_path / "file") == pytest.approx(inside, abs=0.01)


def test_weights_before_and_after_need_no_weights_in_the_model(run, tmp_path):
    (tmp_path / "nets.py").write_text(NETS)
    sent = Sent("conv", tmp_path, "FedAvg")
    (tmp_path / "nets.py").write_text(NETS.replace("manual_seed(0)", "manual_seed(1)"))
    torch.save({"state_dict": sent.state}, "before.pt")
    torch.save(sent.after, "after.pt")
    choices = ("nets.py:conv", *SHAPE, *FEDAVG, "--attack", "least-squares-matching", "--steps", "60")
    code, out, err = run(*choices, "--before", "before.pt", "--after", "after.pt", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert [f["role"] for f in found["update"]["files"]] == ["before", "after"]
    norm = math.sqrt(sum(float(g.square().sum()) for g in sent.gradients.values()))
    assert found["update"]["norm"] == pytest.approx(norm, rel=1e-4)
    assert found["labels"] == [LABEL]
    # From other weights the same update says nothing of the clip.
    code, out, err = run(*choices, "--after", "after.pt", "--force", "--json")
    assert code == 0, err
    assert json.loads(out)["proof"]["code"] == "NOTHING"


def test_what_is_missing_and_what_is_left_over_is_told(run, tmp_path):
    (tmp_path / "nets.py").write_text(NETS)
    sent = Sent("conv", tmp_path)
    part = {name: g for name, g in sent.arrays().items() if name != "0.weight"}
    np.savez("part.npz", **part)
    choices = ("nets.py:conv", *SHAPE, "--attack", "gradient-matching", "--steps", "60")
    code, out, err = run(*choices, "--update", "part.npz")
    assert code == 0, err
    assert "missing     0.weight was not sent" in out
    assert "no grade and no verdict" in out
    np.savez("more.npz", **sent.arrays(), momentum=np.zeros(3))
    code, out, err = run(*choices, "--update", "more.npz", "--force", "--json")
    assert code == 0, err
    assert json.loads(out)["update"]["unexpected"] == ["momentum"]


class Evil:
    def __reduce__(self):
        return (os.mkdir, ("ran",))


def hostile(path: Path, case: str, arrays: dict[str, np.ndarray]) -> None:
    if case == "another model":
        np.savez(path, **{"a.weight": np.zeros((3, 3)), "a.bias": np.zeros(3)})
    elif case == "another shape":
        np.savez(path, **{**arrays, "4.bias": np.zeros(7)})
    elif case == "half renamed":
        np.savez(path, **{name.replace("4.weight", "fc.w"): value for name, value in arrays.items()})
    elif case == "shuffled":
        np.savez(path, *reversed(list(arrays.values())))
    elif case == "too few":
        np.savez(path, *list(arrays.values())[:2])
    elif case == "truncated":
        np.savez(path, **arrays)
        path.write_bytes(path.read_bytes()[:-300])
    elif case == "not finite":
        np.savez(path, **{**arrays, "4.bias": np.full(6, 1e60)})  # float32 does not hold it
    elif case == "whole numbers":
        np.savez(path, **{name: np.zeros(value.shape, np.int8) for name, value in arrays.items()})
    elif case == "pickle":
        path.write_bytes(pickle.dumps(Evil()))
    elif case == "objects":
        torch.save({"x": Evil(), **{n: torch.from_numpy(v) for n, v in arrays.items()}}, path)
    elif case == "array of objects":
        np.savez(path, **arrays, x=np.array([Evil()], dtype=object))
    elif case == "packed":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.npy", bytes(80 * 2**20))
    elif case in ("10 GB", "10 GB of zip"):
        np.savez(path, **arrays)
        with path.open("r+b") as stream:
            if case == "10 GB":
                stream.write(struct.pack("<Q", 100) + b"{")
            stream.truncate(10 * 2**30)
    elif case == "folder":
        path.mkdir()
    elif case == "empty":
        path.touch()


@pytest.mark.parametrize(
    ("case", "says"),
    [
        ("another model", "under other names than the model's, and they do not fit in order: there are 2, the model"),
        ("another shape", "'4.bias' is (7,), the model has (6,)"),
        ("half renamed", "1 missing (4.weight), 1 unexpected (fc.w)"),
        ("shuffled", "number 0 is (6,) where '0.weight' is (8, 3, 3, 3, 3)"),
        ("too few", "there are 2, the model has 6 or 9 or 8"),
        ("truncated", "damaged zip archive; copy it again"),
        ("not finite", "tensor '4.bias' in seen.npz holds NaN or infinity"),
        ("whole numbers", "holds int8, not floating-point numbers"),
        ("pickle", "its objects run code when loaded"),
        ("objects", "holds Python objects, which run code when loaded"),
        ("array of objects", "holds arrays of Python objects"),
        ("packed", "seen.npz holds 0.1 GiB, and an update of this model at most 0.1"),
        ("10 GB", "seen.npz holds 10.0 GiB, and an update of this model at most 0.1"),
        ("10 GB of zip", "seen.npz holds 10.0 GiB, and an update of this model at most 0.1"),
        ("folder", "is a folder"),
        ("empty", "is empty"),
        ("absent", "there is no seen.npz"),
    ],
)
def test_a_file_that_is_no_update_of_this_model_is_refused_in_one_line(run, tmp_path, case, says):
    (tmp_path / "nets.py").write_text(NETS)
    hostile(tmp_path / "seen.npz", case, Sent("conv", tmp_path).arrays())
    code, _, err = run("nets.py:conv", *SHAPE, "--update", "seen.npz")
    assert code == 2
    assert says in error_after_progress(err)
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "fl-audit-attack").exists()


def test_objects_beside_the_tensors_are_never_built(run, tmp_path):
    (tmp_path / "nets.py").write_text(NETS)
    torch.save({"state_dict": Sent("flat", tmp_path).gradients, "arguments": argparse.Namespace(rate=0.1)}, "seen.pt")
    code, out, err = run("nets.py:flat", *SHAPE, "--update", "seen.pt", "--attack", "linear-input")
    assert code == 0, err
    assert "left out unread" in out


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--after", "seen.npz"), "--algorithm is fedsgd; add --algorithm fedavg"),
        (("--update", "seen.npz", "--after", "seen.npz"), "--update and --after were given"),
        (("--before", "seen.npz"), "--before was given without --after"),
        (("--update", "seen.npz", "--clip", "hand_box"), "--clip names the true clip"),
        (("--update", "seen.npz", "--diagnose"), "--diagnose starts at the true clip"),
        (("--update", "seen.npz", "--attack", "gradient-matching-r1"), "needs a frame of the scene; add --reference"),
        (("--update", "seen.npz", "--known-label"), "give --label where it is known"),
        (("--update", "seen.npz", "--label", "9"), "--label 9 is no class of this model"),
        (
            ("--update", "seen.npz", "--batch", "3", "--label", "1,2"),
            "--label gives 2 labels, and the update is of 3 clips",
        ),
        (("--update", "steps.pt", *FEDAVG), "says that its client took 7 local steps, and the options describe 2"),
        (("--update", "steps.pt"), "holds a difference of weights, and --algorithm fedsgd sends a gradient"),
        (("--update", "seen.npz", *FEDAVG, "--bn", "train", "--send-buffers"), "holds no running statistics"),
    ],
)
def test_options_that_do_not_fit_a_captured_update_are_refused(run, tmp_path, args, says):
    (tmp_path / "nets.py").write_text(NETS)
    sent = Sent("conv", tmp_path)
    np.savez("seen.npz", **sent.arrays())
    meta = {"data_kind": "WEIGHT_DIFF", "data": sent.gradients, "meta": {"NUM_STEPS_CURRENT_ROUND": 7}}
    torch.save(meta, "steps.pt")
    code, _, err = run("nets.py:conv", *SHAPE, *args)
    assert code == 2
    assert says in error_after_progress(err)


def test_a_batch_takes_as_many_labels_as_clips_and_shows_each_clip(run, tmp_path):
    (tmp_path / "nets.py").write_text(NETS)
    target = auditor.load(f"{tmp_path / 'nets.py'}:conv", input_shape=(3, 4, 8, 8), layout="NCTHW", device="cpu")
    client = LocalClient(target.model, FederatedProtocol(batch=2, sent=tuple(target.parameters)))
    clips = torch.stack([moving_texture(target.input, seed).clip for seed in (11, 12)])
    update = client.update(clips, torch.tensor([1, 4]))
    torch.save(dict(update.gradients), "two.pt")
    choices = ("nets.py:conv", *SHAPE, "--batch", "2", "--steps", "60", "--update", "two.pt", "--json")
    code, out, err = run(*choices, "--label", "1,4")
    assert code == 0, err
    assert json.loads(out)["labels"] == [1, 4]
    with np.load("fl-audit-attack/arrays.npz") as arrays:
        assert arrays["reconstruction"].shape == (2, 4, 3, 8, 8)
