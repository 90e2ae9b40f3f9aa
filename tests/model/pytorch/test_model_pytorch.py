"""Factories, torchvision architectures and weights files."""

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from zoo import NETS, build

from auditor.errors import AuditError, NotAuditable, UsageError
from auditor.model import load

FACTORY = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(3, 4, 3)
        self.norm = nn.BatchNorm3d(4)
        self.gate = nn.Hardsigmoid()
        self.head = nn.Linear(4, 6)

    def forward(self, x):
        x = self.norm(self.conv(x))
        x = x * torch.nn.functional.hardsigmoid(x) * self.gate(x)
        return self.head(torch.nn.functional.hardswish(x).mean((2, 3, 4)))

def factory():
    net = Net()
    net.input_shape = (3, 4, 8, 8)
    return net

def bare():
    return Net()

bare_with_shape = lambda: Net()
bare_with_shape.input_shape = (3, 5, 9, 9)

def raises():
    raise RuntimeError("no checkpoint here\\nsecond line")

def nothing():
    return "a string"

def wide():
    return Net().double()

def two():
    class Two(nn.Module):
        input_shape = (3, 4, 8, 8)
        def __init__(self):
            super().__init__()
            self.net = Net()
        def forward(self, x):
            return {"logits": self.net(x)}
    return Two()

def frozen():
    return nn.Sequential(nn.Flatten(), nn.Softmax(-1))

number = 3
"""


@pytest.fixture
def source(tmp_path) -> str:
    path = tmp_path / "nets.py"
    path.write_text(FACTORY)
    return str(path)


def fails(kind: type[AuditError], *words: str, source: str, **options: object) -> None:
    with pytest.raises(kind) as caught:
        load(source, **options)  # type: ignore[arg-type]
    text = str(caught.value)
    assert "\n" not in text
    assert caught.value.remedy
    assert type(caught.value) is kind
    for word in words:
        assert word in text


def test_a_factory(source) -> None:
    target = load(f"{source}:factory")
    assert (target.format, target.name, target.classes) == ("pytorch", "factory", 6)
    assert target.input.clip_shape == (4, 3, 8, 8)
    assert [(layer.name, layer.kind) for layer in target.layers] == [
        ("conv", "conv3d"),
        ("norm", "norm"),
        ("head", "linear"),
    ]
    fidelity = target.fidelity
    assert fidelity.double_backward  # hard activations have no second derivative in torch
    assert fidelity.parity_max_error is None
    assert fidelity.gradient_check is not None
    assert fidelity.gradient_check < 1e-6
    assert (fidelity.batchnorm, fidelity.batch) == ("kept", "dynamic")
    assert list(target.parameters)[:2] == ["conv.weight", "conv.bias"]
    assert load(f"{source}:factory").sha256 == target.sha256
    assert load(f"{source}:factory", seed=1).sha256 != target.sha256
    assert load(f"{source}:bare_with_shape").input.frames == 5
    assert load(f"{source}:bare", input_shape=(1, 3, 4, 8, 8)).input.frames == 4


def test_what_a_factory_can_get_wrong(source, tmp_path) -> None:
    fails(UsageError, "there is no file", source=str(tmp_path / "none.py") + ":factory")
    fails(UsageError, "defines no 'factry'", "did you mean factory", source=f"{source}:factry")
    fails(UsageError, "RuntimeError: no checkpoint here", source=f"{source}:raises")
    fails(UsageError, "returned str", source=f"{source}:nothing")
    fails(UsageError, "not a function", source=f"{source}:number")
    fails(UsageError, "--input-shape", source=f"{source}:bare")
    fails(UsageError, "fails on a clip", source=f"{source}:bare", input_shape=(1, 4, 8, 8))
    assert load(f"{source}:two").classes == 6  # the one output of a dict
    fails(NotAuditable, "no trainable float parameter", source=f"{source}:frozen", input_shape=(3, 4, 8, 8))
    fails(UsageError, "name the function", source=source)
    broken = tmp_path / "broken.py"
    broken.write_text("def f(:\n")
    fails(UsageError, "SyntaxError", source=f"{broken}:f")


def test_double_precision_is_converted_and_noted(source) -> None:
    target = load(f"{source}:wide", input_shape=(3, 4, 8, 8))
    assert all(value.dtype == torch.float32 for value in target.parameters.values())
    assert any("float64 were converted" in note for note in target.fidelity.notes)


@pytest.mark.parametrize("name", NETS)
def test_every_net_of_the_zoo(name, tmp_path, clips) -> None:
    path = tmp_path / "f.py"
    here = str(Path(__file__).parents[1])
    path.write_text(
        f"import sys\nsys.path.insert(0, {here!r})\nfrom zoo import build\ndef f():\n    return build({name!r})\n"
    )
    target = load(f"{path}:f", input_shape=(3, 8, 16, 16))
    assert target.fidelity.double_backward
    assert target.fidelity.gradient_check is not None
    assert target.fidelity.gradient_check < 1e-6
    torch.testing.assert_close(target.model(clips), build(name)(clips.transpose(1, 2)))


def test_batch_statistics_never_change_the_running_ones(source, clips) -> None:
    target = load(f"{source}:factory")
    model = target.model
    before = {k: v.clone() for k, v in model.named_buffers()}
    x = torch.rand(2, 4, 3, 8, 8)
    evaluated = model(x)
    model.batchnorm("train")
    trained = model(x)
    conv = model.network.conv(x.transpose(1, 2))
    expected = nn.functional.batch_norm(conv, None, None, model.network.norm.weight, model.network.norm.bias, True)
    torch.testing.assert_close(model.inputs_of("head.weight", x)[1], trained)
    torch.testing.assert_close(model.inputs_of("norm.weight", x)[1], expected)
    assert not torch.allclose(trained, evaluated)
    model.batchnorm("eval")
    torch.testing.assert_close(model(x), evaluated)
    assert all(torch.equal(before[k], v) for k, v in model.named_buffers())


def test_layouts_and_normalisation(tmp_path) -> None:
    path = tmp_path / "f.py"
    path.write_text(
        "import torch\nfrom torch import nn\n"
        "class First(nn.Module):\n"
        "    def __init__(self):\n        super().__init__(); self.w = nn.Parameter(torch.rand(7))\n"
        "    def forward(self, x):\n        return x.flatten(1)[:, :7] * self.w\n"
        "def f():\n    return First()\n"
    )
    clips = torch.rand(2, 4, 3, 6, 5)
    orders = {"NCTHW": (3, 4, 6, 5), "NTCHW": (4, 3, 6, 5), "NTHWC": (4, 6, 5, 3)}
    axes = {"NCTHW": (0, 2, 1, 3, 4), "NTCHW": (0, 1, 2, 3, 4), "NTHWC": (0, 1, 3, 4, 2)}
    mean, std = (0.4, 0.5, 0.6), (0.1, 0.2, 0.3)
    scaled = (clips * 255 - 127 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    for layout, shape in orders.items():
        target = load(f"{path}:f", input_shape=shape, mean=mean, std=std, range=(-127.0, 128.0))
        assert target.input.layout == layout
        expected = scaled.permute(axes[layout]).flatten(1)[:, :7] * target.parameters["w"]
        torch.testing.assert_close(target.model(clips), expected, rtol=1e-4, atol=1e-3)
    for layout, shape in {"NCHW": (3, 6, 5), "NHWC": (6, 5, 3)}.items():
        target = load(f"{path}:f", input_shape=shape)
        assert (target.input.layout, target.input.frames) == (layout, 1)
        frames = clips[:, 0] if layout == "NCHW" else clips[:, 0].permute(0, 2, 3, 1)
        torch.testing.assert_close(target.model(clips[:, :1]), frames.flatten(1)[:, :7] * target.parameters["w"])
    whole = load(f"{path}:f", input_shape=(4, 3, 6, 5), layout="NCHW")
    by_frame = torch.stack([clips[:, t].flatten(1)[:, :7] for t in range(4)]).mean(0)
    torch.testing.assert_close(whole.model(clips), by_frame * whole.parameters["w"])


# --------------------------------------------------------------------------------------------------------- weights


def test_weights(source, tmp_path) -> None:
    plain = load(f"{source}:factory", seed=5)
    state = plain.model.state_dict()
    torch.save(state, tmp_path / "w.pt")
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}, "epoch": 3}, tmp_path / "wrapped.pth")
    save_file(state, tmp_path / "w.bin")
    for name in ("w.pt", "wrapped.pth", "w.bin"):
        target = load(f"{source}:factory", weights=tmp_path / name)
        assert target.sha256 == plain.sha256
        assert all(torch.equal(plain.parameters[k], v) for k, v in target.parameters.items())


def test_weights_that_do_not_fit(source, tmp_path) -> None:
    state = dict(load(f"{source}:factory").model.state_dict())
    path = tmp_path / "w.pt"
    factory = f"{source}:factory"
    fails(UsageError, "there is no weights file", source=factory, weights=tmp_path / "none.pt")
    fails(UsageError, "is not a file", source=factory, weights=tmp_path)
    torch.save({k: v for k, v in state.items() if k != "head.bias"}, path)
    fails(UsageError, "1 missing (head.bias)", source=factory, weights=path)
    torch.save({**state, "extra": torch.ones(1)}, path)
    fails(UsageError, "1 unexpected (extra)", source=factory, weights=path)
    torch.save({**state, "head.bias": torch.ones(9)}, path)
    fails(UsageError, "head.bias is (9,), the model has (6,)", source=factory, weights=path)
    torch.save({**state, "head.bias": torch.full((6,), float("nan"))}, path)
    fails(NotAuditable, "'head.bias'", "NaN", source=factory, weights=path)
    torch.save(nn.Linear(2, 2), path)
    fails(NotAuditable, "Python objects", "state_dict", source=factory, weights=path)
    torch.save([1, 2], path)
    fails(NotAuditable, "no named tensors", source=factory, weights=path)
    path.write_text("not weights at all")
    fails(NotAuditable, "neither safetensors", source=factory, weights=path)
    save_file(state, path)
    path.write_bytes(path.read_bytes()[:-8])
    fails(NotAuditable, "damaged", source=factory, weights=path)
    torch.save(state, path)
    path.write_bytes(path.read_bytes()[:400])
    fails(NotAuditable, "damaged", source=factory, weights=path)


# ----------------------------------------------------------------------------------------------------- torchvision


def test_torchvision_names() -> None:
    fails(UsageError, "did you mean", "r3d_18", source="torchvision:r3d18")
    fails(UsageError, "no classification model", source="torchvision:zzz")


def test_a_torchvision_that_does_not_import(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    fails(UsageError, "torchvision cannot be imported", "pip install", source="torchvision:r3d_18")


def test_a_small_torchvision_model() -> None:
    target = load("torchvision:mobilenet_v3_small", classes=4, input_shape=(2, 3, 32, 32), layout="NCHW")
    assert target.classes == 4
    assert target.fidelity.double_backward
    assert target.input.mean == (0.485, 0.456, 0.406)
    assert target.input.frames == 2
    assert target.input.origin == "given by the user"
    assert any("random" in note for note in target.fidelity.notes)


def test_scripted_modules_are_refused(tmp_path) -> None:
    path = tmp_path / "f.py"
    path.write_text("import torch\nclass S(torch.jit.ScriptModule):\n    pass\ndef f():\n    return S()\n")
    fails(NotAuditable, "TorchScript", source=f"{path}:f", input_shape=(3, 4, 8, 8))
