"""Networks whose weights a package brings, as a model and as an extractor."""

from pathlib import Path

import pytest
import torch

from auditor.cli import main as cli
from auditor.efficientnet import EfficientNetLite0
from auditor.errors import UsageError
from auditor.model import load, load_two_part

SOURCE = "pretrained:efficientnet-lite0"
HEADS = Path(__file__).parents[2] / "two_part_nets.py"
SHAPE = (2, 3, 32, 32)


@pytest.fixture(scope="module")
def classifier():
    return load(SOURCE, input_shape=SHAPE)


def test_as_a_model_it_is_the_package_s_classifier(classifier):
    clips = torch.rand(1, *SHAPE, generator=torch.Generator().manual_seed(0))
    net = EfficientNetLite0().net
    with torch.no_grad():
        theirs = net((clips[0] * 255 - 127) / 128).mean(0, keepdim=True)
        ours = classifier.model(clips)
    assert classifier.classes == 1000
    assert torch.allclose(ours, theirs, atol=1e-4 * float(theirs.abs().max()))
    assert not [note for note in classifier.fidelity.notes if "random" in note]
    assert classifier.input.mean == (0.0,)
    assert "normalises by itself" in load(SOURCE).input.origin


def test_as_an_extractor_it_gives_1280_features_a_frame():
    target = load_two_part(SOURCE, f"{HEADS}:of_lite0", input_shape=SHAPE)
    names = list(target.parameters)
    assert names[0] == "extractor.features.net._conv_stem.weight"
    assert target.parameters["head.weight"].shape == (5, 1280)
    assert [n for n in names if not n.startswith("extractor.")] == ["head.weight", "head.bias"]
    clips = torch.rand(1, *SHAPE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = EfficientNetLite0()(clips[0])
        rows = features @ target.parameters["head.weight"].T + target.parameters["head.bias"]
        assert torch.allclose(target.model(clips), rows.mean(0, keepdim=True), atol=1e-4)
    assert target.fidelity.double_backward


def test_weights_are_the_same_whatever_the_seed():
    first, second = (load_two_part(SOURCE, f"{HEADS}:of_lite0", input_shape=SHAPE, seed=seed) for seed in (0, 1))
    assert first.parts[0].sha256 == second.parts[0].sha256


@pytest.mark.parametrize(
    ("source", "choices", "cause"),
    [
        ("pretrained:resnet", {}, "no pretrained weights called 'resnet'"),
        (SOURCE, {"classes": 5}, "tells 1000 classes apart, not 5"),
        (SOURCE, {"arg": (("depth", 3),)}, "takes no --arg"),
    ],
)
def test_what_it_does_not_do_is_told_with_a_remedy(source, choices, cause):
    with pytest.raises(UsageError) as error:
        load(source, **choices)
    assert cause in error.value.cause
    assert error.value.remedy


def inspected(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["fl-audit", "inspect", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code


def test_an_unknown_name_is_one_line_and_exit_code_2(monkeypatch, capsys):
    assert inspected(monkeypatch, "pretrained:resnet") == 2
    err = " ".join(capsys.readouterr().err.split())
    assert err.endswith("there are no pretrained weights called 'resnet'; give pretrained:efficientnet-lite0")


def test_inspect_shows_it_as_an_extractor(monkeypatch, capsys):
    parts = ("--extractor", SOURCE, "--head", f"{HEADS}:of_lite0")
    assert inspected(monkeypatch, *parts, "--input-shape", "4,3,64,64") == 0
    out = capsys.readouterr().out
    assert "4 frames of 3 x 64 x 64" in out
    assert "ImageNet" in out
