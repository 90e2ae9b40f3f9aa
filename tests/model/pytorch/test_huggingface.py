"""Local folders of Hugging Face: three video transformers, tiny and random, and everything a folder can get wrong."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from refusals import fails
from torch import nn

from auditor.errors import NotAuditable, UsageError
from auditor.model import load

transformers = pytest.importorskip("transformers", reason="transformers is an extra: pip install 'fl-audit[hf]'")

COMMON: dict[str, Any] = {
    "image_size": 16, "patch_size": 8, "num_frames": 4, "hidden_size": 16, "num_hidden_layers": 2,
    "num_attention_heads": 2, "intermediate_size": 32, "num_labels": 5,
}  # fmt: skip
MODELS = {
    "videomae": ("VideoMAE", {"tubelet_size": 2}),
    "timesformer": ("Timesformer", {}),
    "vivit": ("Vivit", {"tubelet_size": [2, 8, 8]}),
}


def made(kind: str) -> nn.Module:
    name, special = MODELS[kind]
    config = getattr(transformers, f"{name}Config")(**COMMON, **special)
    model = getattr(transformers, f"{name}ForVideoClassification")(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def saved(kind: str, folder: Path, **settings: Any) -> Path:
    """Save a model as transformers does, and change its configuration."""
    made(kind).save_pretrained(folder)
    change(folder, **settings)
    return folder


def change(folder: Path, **settings: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


@pytest.mark.parametrize("kind", MODELS)
def test_gradients_are_those_of_the_plain_module(kind, tmp_path) -> None:
    target = load(f"hf:{saved(kind, tmp_path / 'm')}")
    model, plain = target.model, made(kind)
    clips = torch.rand(2, 4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    logits, expected = model(clips), plain(pixel_values=clips).logits
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    ours = torch.autograd.grad(logits.square().sum(), list(model.parameters()))
    theirs = torch.autograd.grad(expected.square().sum(), list(plain.parameters()))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4 * float(other.abs().max()) + 1e-6)
    assert [n for n, _ in model.named_parameters()] == [n for n, _ in plain.named_parameters()]
    assert target.fidelity.double_backward
    assert target.fidelity.gradient_check is not None
    assert target.fidelity.gradient_check < 1e-3
    assert (target.format, target.name, target.classes) == ("hf", "m", 5)
    assert (target.input.layout, target.input.clip_shape) == ("NTCHW", (4, 3, 16, 16))
    assert any("no preprocessor_config.json" in note.lower() for note in target.fidelity.notes)


def test_the_preprocessor_is_read(tmp_path) -> None:
    folder = saved("vivit", tmp_path)
    settings = {
        "do_normalize": True, "image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.6, 0.7],
        "do_rescale": True, "rescale_factor": 2 / 255, "offset": True,
    }  # fmt: skip
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps(settings))
    spec = load(f"hf:{folder}").input
    assert (spec.mean, spec.std) == ((0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    assert spec.value_range == pytest.approx((-1.0, 1.0))
    path.write_text(json.dumps(settings | {"do_normalize": False, "offset": False, "rescale_factor": 1 / 255}))
    spec = load(f"hf:{folder}").input
    assert (spec.mean, spec.std, spec.value_range) == ((0.0,), (1.0,), pytest.approx((0.0, 1.0)))
    assert load(f"hf:{folder}", mean=(0.5,), std=(0.25,)).input.mean == (0.5,)
    path.write_text(json.dumps(settings | {"image_mean": "bright"}))
    fails(NotAuditable, "preprocessor", source=f"hf:{folder}")


def test_weights_of_other_kinds(tmp_path) -> None:
    folder = saved("videomae", tmp_path / "m")
    plain = load(f"hf:{folder}")
    state = made("videomae").state_dict()
    (folder / "model.safetensors").unlink()
    fails(NotAuditable, "holds no weights", source=f"hf:{folder}")
    torch.save(state, folder / "pytorch_model.bin")
    assert load(f"hf:{folder}").sha256 == plain.sha256
    torch.save({key: value * 2 for key, value in state.items()}, tmp_path / "w.pt")
    other = load(f"hf:{folder}", weights=tmp_path / "w.pt")
    torch.testing.assert_close(other.parameters["classifier.weight"], 2 * plain.parameters["classifier.weight"])
    torch.save({"w": torch.ones(1), "x": Runs(tmp_path / "left")}, folder / "pytorch_model.bin")
    fails(NotAuditable, "Python objects", source=f"hf:{folder}")
    assert not (tmp_path / "left").exists()


class Runs:
    """Leaves a folder behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_weights_that_do_not_fit(tmp_path) -> None:
    folder = saved("videomae", tmp_path)
    fails(UsageError, "does not fit", "give --classes 5", source=f"hf:{folder}", classes=9)
    assert load(f"hf:{folder}", classes=5).classes == 5
    change(folder, num_hidden_layers=3)
    fails(UsageError, "missing", "videomae.encoder.layer.2", source=f"hf:{folder}")
    change(folder, num_hidden_layers=1)
    fails(UsageError, "unexpected", "videomae.encoder.layer.1", source=f"hf:{folder}")


def test_code_in_a_folder_never_runs(tmp_path) -> None:
    left = tmp_path / "left"
    folder = saved(
        "videomae",
        tmp_path / "m",
        auto_map={"AutoConfig": "code.Config", "AutoModelForVideoClassification": "code.Model"},
        _attn_implementation="someone/kernels",
        attn_implementation="someone/kernels",
    )
    (folder / "code.py").write_text(f"import os\nos.mkdir({str(left)!r})\n")
    target = load(f"hf:{folder}")
    assert not left.exists()
    assert target.fidelity.double_backward


def test_folders_that_are_no_video_classifier(tmp_path, capfd) -> None:
    fails(UsageError, "there is no folder", "nothing is downloaded", source="hf:MCG-NJU/videomae-base")
    fails(NotAuditable, "no config.json", source=f"hf:{tmp_path}")
    (tmp_path / "config.json").write_text("{")
    fails(NotAuditable, "is not JSON", source=f"hf:{tmp_path}")
    (tmp_path / "config.json").write_text("[1]")
    fails(NotAuditable, "holds no settings", source=f"hf:{tmp_path}")
    (tmp_path / "config.json").write_text('{"model_type": "bert\\u001b[31m"}')
    fails(NotAuditable, "type bert[31m", "videomae, timesformer, vivit", source=f"hf:{tmp_path}")
    folder = saved("videomae", tmp_path / "m", architectures=["VideoMAEForPreTraining"])
    fails(NotAuditable, "VideoMAEForPreTraining", "no classifier", source=f"hf:{folder}")
    change(folder, architectures=None, quantization_config={"quant_method": "bitsandbytes"})
    fails(NotAuditable, "quantised", source=f"hf:{folder}")
    change(folder, quantization_config=None, hidden_size="large")
    fails(NotAuditable, "config.json describes no VideoMAE", source=f"hf:{folder}")
    capfd.readouterr()
    change(folder, hidden_size=16)
    load(f"hf:{folder}")
    assert capfd.readouterr() == ("", "")


def test_without_transformers(tmp_path, monkeypatch) -> None:
    folder = saved("videomae", tmp_path)
    monkeypatch.setitem(sys.modules, "transformers", None)
    fails(UsageError, "pip install 'fl-audit[hf]'", source=f"hf:{folder}")
