"""Image models of timm, run on every frame; differentiable twice whatever their activations and attention."""

import sys

import pytest
import torch
from refusals import fails

from auditor.errors import UsageError
from auditor.model import load

timm = pytest.importorskip("timm", reason="timm is an extra: pip install 'fl-audit[timm]'")

SMALL = (2, 3, 32, 32)
NETS = {
    "vit_tiny_patch16_224": (("img_size", 32), ("depth", 2), ("embed_dim", 24)),
    "convnext_atto": (("depths", [1, 1, 1, 1]), ("dims", [8, 8, 16, 16])),
    "mobilenetv3_small_050": (),
    "swin_tiny_patch4_window7_224": (
        ("img_size", 32), ("window_size", 4), ("embed_dim", 12), ("depths", [1, 1, 1, 1]), ("num_heads", [1, 1, 2, 2]),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NETS)
def test_gradients_are_those_of_the_plain_module(name) -> None:
    target = load(f"timm:{name}", arg=NETS[name], input_shape=SMALL, classes=4)
    model = target.model
    plain = timm.create_model(name, pretrained=False, num_classes=4, **dict(NETS[name])).eval()
    plain.load_state_dict(model.state_dict())
    clips = torch.rand(2, *SMALL, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(plain.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    frames = (clips.flatten(0, 1) - mean) / std
    expected = plain(frames).unflatten(0, (2, 2)).mean(1)
    logits = model(clips)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    ours = torch.autograd.grad(logits.square().sum(), list(model.parameters()))
    theirs = torch.autograd.grad(expected.square().sum(), list(plain.parameters()))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4 * float(other.abs().max()) + 1e-6)
    assert [n for n, _ in model.named_parameters()] == [n for n, _ in plain.named_parameters()]
    assert target.fidelity.double_backward
    assert target.fidelity.gradient_check is not None
    assert target.fidelity.gradient_check < 1e-3
    assert (target.format, target.classes, target.input.frames) == ("timm", 4, 2)
    assert any("random" in note for note in target.fidelity.notes)


def test_what_timm_publishes() -> None:
    target = load("timm:vit_tiny_patch16_224", arg=NETS["vit_tiny_patch16_224"], classes=4, temporal_pool="max")
    spec = target.input
    assert (spec.clip_shape, spec.layout, spec.origin) == ((8, 3, 32, 32), "NCHW", "published by timm")
    assert (spec.mean, spec.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    clip = torch.rand(1, 8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    single = [target.model.network((clip[:, t] - 0.5) / 0.5) for t in range(8)]
    torch.testing.assert_close(target.model(clip), torch.stack(single).amax(0))


def test_wrong_names_and_arguments() -> None:
    fails(UsageError, "no model 'resnet19'", "did you mean resnet", source="timm:resnet19")
    # timm itself would take these as places to fetch from.
    fails(UsageError, "no model", source="timm:hf-hub:someone/something")
    fails(UsageError, "no model", source="timm:local-dir:/tmp")
    fails(UsageError, "no parameter 'widht'", "its parameters are", source="timm:resnet18", arg=(("widht", 1),))
    fails(UsageError, "may download", "--weights", source="timm:resnet18", arg=(("pretrained", True),))
    fails(UsageError, "may download", source="timm:resnet18", arg=(("checkpoint_path", "/tmp/x"),))
    fails(UsageError, "may download", source="torchvision:resnet18", arg=(("weights", "DEFAULT"),))
    fails(UsageError, "no parameter 'depth'", source="torchvision:r3d_18", arg=(("depth", 1),))


def test_without_timm(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    fails(UsageError, "pip install 'fl-audit[timm]'", source="timm:resnet18")
