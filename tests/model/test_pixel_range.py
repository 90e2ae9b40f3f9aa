"""What a network does to pixels before its first layer tells which values it was written for."""

from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from zoo import export

from auditor.model import load

SHAPE = (3, 4, 8, 8)
COLOURS = torch.tensor([[0.299, 0.587, 0.114], [-0.147, -0.289, 0.436], [0.615, -0.515, -0.1]])
MEAN, STD = torch.tensor([123.7, 116.3, 103.5]), torch.tensor([58.4, 57.1, 57.4])


class Net(nn.Module):
    """A convolution behind some arithmetic on pixels."""

    input_shape = SHAPE

    def __init__(self, form: str = "plain") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.form, self.conv, self.head = form, nn.Conv3d(3, 4, 3, 2, 1), nn.Linear(4 * 32, 5)
        self.norm, self.unit_norm = nn.BatchNorm3d(3), nn.BatchNorm3d(3)
        self.norm.running_mean, self.norm.running_var = MEAN.clone(), STD**2
        self.unit_norm.running_mean, self.unit_norm.running_var = MEAN / 255, (STD / 255) ** 2
        self.scale = nn.Parameter(torch.full((1, 3, 1, 1, 1), 1 / 255))

    def forward(self, x: Tensor) -> Tensor:
        mean, std = MEAN.view(3, 1, 1, 1), STD.view(3, 1, 1, 1)
        changed = {
            "plain": lambda: x,
            "255": lambda: x / 255,
            "times": lambda: x * 0.00392157,
            "both sides": lambda: x / 127.5 - 1,
            "mean": lambda: (x - mean) / std,
            "caffe": lambda: x - mean,
            "no_grad": lambda: (x / 255).detach(),
            "padded": lambda: nn.functional.pad(x / 255, (1, 1, 1, 1)),
            "unit": lambda: (x - 0.45) / 0.225,
            "doubled": lambda: x * 2 - 1,
            "times 255": lambda: (x * 255 - mean) / std,
            "trained": lambda: x * self.scale,
            "hundredth": lambda: x * 0.01,
            "batch norm": lambda: self.norm(x),
            "batch norm of unit": lambda: self.unit_norm(x),
            "rounded": lambda: x.round() / 255,
            "cast": lambda: x.to(torch.uint8).float() / 127.5 - 1,
            "frame differences": lambda: (x - x.roll(1, 2)) / 255,
            "brightness": lambda: torch.einsum("bcthw,dc->bdthw", x / 255, COLOURS),
            "8 bits": lambda: (x * 255).round() / 255,
            "standardised": lambda: (x - x.mean()) / (x.std() + 1e-5),
            "gamma": lambda: (x / 255) ** 2.2,
        }[self.form]()
        return self.head(self.conv(changed)[..., :4, :4].flatten(1))


FACTORY = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_pixel_range import Net
def net(form): return Net(form)
def stated(form):
    net = Net(form)
    net.mean, net.std = (0.5,), (0.25,)
    return net
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("range") / "nets.py"
    path.write_text(FACTORY)
    return str(path)


BYTES = (
    "255", "times", "both sides", "mean", "caffe", "no_grad", "padded", "batch norm", "rounded", "cast",
    "frame differences", "brightness",
)  # fmt: skip
UNIT = ("plain", "unit", "doubled", "times 255", "trained", "batch norm of unit", "8 bits", "standardised")


@pytest.mark.parametrize("form", [*BYTES, *UNIT])
def test_a_factory_that_rescales_bytes_gets_bytes(form, source) -> None:
    target = load(f"{source}:net", arg=(("form", form),))
    assert target.input.value_range == ((0.0, 255.0) if form in BYTES else (0.0, 1.0))
    assert any("written for values 0 to 255" in n for n in target.fidelity.notes) == (form in BYTES)


@pytest.mark.parametrize("exporter", ["legacy", "dynamo"])
@pytest.mark.parametrize("form", ["255", "mean", "unit", "plain", "batch norm", "cast", "8 bits"])
def test_a_file_that_rescales_bytes_gets_bytes(form, exporter, tmp_path) -> None:
    target = load(str(export(Net(form).eval(), tmp_path / "m.onnx", exporter, SHAPE)))
    assert target.input.value_range == ((0.0, 255.0) if form in BYTES else (0.0, 1.0))


def test_a_factor_that_is_small_and_unknown_is_told(source) -> None:
    target = load(f"{source}:net", arg=(("form", "hundredth"),))
    assert target.input.value_range == (0.0, 1.0)
    assert any("--range 0,255" in note for note in target.fidelity.notes)


def test_a_curve_that_hardly_moves_in_unit_is_told(source) -> None:
    target = load(f"{source}:net", arg=(("form", "gamma"),))
    assert any("--range 0,255" in note for note in target.fidelity.notes)


def test_what_was_stated_stays_and_is_questioned(source) -> None:
    for name, options in (("net", {"range": (0.0, 1.0)}), ("stated", {})):
        target = load(f"{source}:{name}", arg=(("form", "255"),), **options)
        assert target.input.value_range == (0.0, 1.0)
        assert any("fits values 0 to 255" in note for note in target.fidelity.notes)


@pytest.mark.parametrize("kind", [TensorProto.UINT8, TensorProto.INT32])
def test_a_file_that_reads_integers_gets_bytes(kind, tmp_path) -> None:
    """ONNX Runtime casts to the declared type, so parity shows that both see the same bytes."""
    weight = torch.randn(5, 768, generator=torch.Generator().manual_seed(0)).numpy() / 255
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["clip"], ["x"], to=TensorProto.FLOAT),
            helper.make_node("Flatten", ["x"], ["flat"]),
            helper.make_node("Gemm", ["flat", "w"], ["logits"], transB=1),
        ],
        "g",
        [helper.make_tensor_value_info("clip", kind, [1, *SHAPE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 5])],
        [numpy_helper.from_array(weight, "w")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(proto, tmp_path / "m.onnx")
    target = load(str(tmp_path / "m.onnx"))
    assert target.input.value_range == (0.0, 255.0)
    assert kind != TensorProto.UINT8 or max(target.fidelity.parity.values()) < 1e-5
    assert any("0 to 255" in note for note in target.fidelity.notes)
