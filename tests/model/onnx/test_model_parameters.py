"""Parameters in unusual places are found, and what cannot be told is said."""

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
import witness
from torch import Tensor, nn
from zoo import export

from auditor.errors import NotAuditable
from auditor.model import load

SHAPE = (3, 8, 16, 16)


class Unusual(nn.Module):
    """Learned numbers, divisors, exponents, limits and written tokens, and a buffer that multiplies."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(768, 6)
        self.gate, self.power = nn.Parameter(torch.tensor(0.7)), nn.Parameter(torch.tensor([1.5]))
        self.divisor, self.floor = nn.Parameter(torch.rand(6) + 0.5), nn.Parameter(torch.rand(6) * 0.1)
        self.token, self.scale = nn.Parameter(torch.rand(6)), nn.Parameter(torch.tensor([[0.3]]))
        self.register_buffer("window", torch.rand(6))
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.sigmoid(self.embed(x.transpose(1, 2).flatten(2))) / self.divisor
        x = torch.cat([x[:, :3], x[:, 3:4] * 0 + self.token, x[:, 4:]], 1)
        x = torch.maximum(x**self.power, self.floor) * self.window
        x = x + self.gate * torch.tanh(x) * self.scale.clamp(max=4.6).exp()
        return self.head(x.mean(1))


@pytest.mark.parametrize("exporter", ["legacy-training", "dynamo-plain"])
def test_learned_numbers_divisors_and_exponents_are_parameters(exporter, tmp_path) -> None:
    torch.manual_seed(0)
    net = Unusual().eval()
    target = load(str(export(net, tmp_path / "m.onnx", exporter)))
    x = torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(1))
    theirs, ours = witness.gradients(net, x), witness.gradients(target.model, x.transpose(1, 2).contiguous())
    for name in ("gate", "power", "divisor", "floor", "token", "scale"):
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-3, atol=1e-7)
    notes = " ".join(target.fidelity.notes)
    if exporter == "dynamo-plain":  # it records which constants are buffers
        assert set(ours) == set(theirs)
    else:
        assert "Taken as trained" in notes


def test_a_norm_computed_at_export_is_told(tmp_path) -> None:
    class Cosine(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.classes = nn.Linear(6144, 6), nn.Parameter(torch.randn(5, 6))

        def forward(self, x: Tensor) -> Tensor:
            return F.linear(F.normalize(self.embed(x.flatten(1)), dim=1), F.normalize(self.classes, dim=1))

    torch.manual_seed(0)
    net = Cosine().eval()
    target = load(str(export(net, tmp_path / "m.onnx", "legacy")), input_shape=SHAPE)
    x = torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(1))
    theirs, ours = witness.gradients(net, x), witness.gradients(target.model, x.transpose(1, 2).contiguous())
    right = "classes" in ours and torch.allclose(ours["classes"], theirs["classes"], rtol=1e-3, atol=1e-7)
    assert right or any("in advance" in note for note in target.fidelity.notes)


def test_a_single_learned_number_does_not_end_the_check(tmp_path) -> None:
    (tmp_path / "net.py").write_text(
        "import torch\n"
        "class Net(torch.nn.Module):\n"
        "    input_shape = (3, 8, 16, 16)\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.a = torch.nn.Parameter(torch.tensor(0.5))\n"
        "        self.b = torch.nn.Parameter(torch.tensor(-0.5))\n"
        "    def forward(self, x):\n"
        "        m = x.mean((1, 3, 4))\n"
        "        return torch.tanh(m * self.a) + m.square() * self.b\n"
    )
    for seed in range(4):
        fidelity = load(f"{tmp_path / 'net.py'}:Net", seed=seed).fidelity
        assert fidelity.gradient_check is not None
        assert fidelity.gradient_check < 1e-4


NETS = """
import torch
class Drawing(torch.nn.Module):
    input_shape = (3, 4, 8, 8)
    def __init__(self):
        super().__init__()
        self.head = torch.nn.Linear(768, 5)
    def forward(self, x):
        return self.head(torch.nn.functional.dropout(x.flatten(1), 0.5, True))
class Rounding(torch.nn.Module):
    input_shape = (3, 4, 8, 8)
    def __init__(self):
        super().__init__()
        self.embed, self.head = torch.nn.Linear(768, 8), torch.nn.Linear(8, 5)
    def forward(self, x):
        h = self.embed(x.flatten(1))
        return self.head(h + (h.round() - h).detach())
"""


def test_a_network_that_draws_in_forward_is_refused_for_that(tmp_path) -> None:
    (tmp_path / "nets.py").write_text(NETS)
    with pytest.raises(NotAuditable, match="answers differently each time"):
        load(f"{tmp_path / 'nets.py'}:Drawing")


def test_derivatives_of_a_network_s_own_are_audited_and_told(tmp_path) -> None:
    """Whoever trains a straight-through estimator computes the same gradients."""
    (tmp_path / "nets.py").write_text(NETS)
    fidelity = load(f"{tmp_path / 'nets.py'}:Rounding").fidelity
    assert any("derivatives of its own" in text for text in fidelity.missing)


def test_a_constant_without_elements_is_no_parameter(tmp_path) -> None:
    """PyTorch writes them where a window of Swin slices nothing off."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(6144, 5)).eval()
    path = export(net, tmp_path / "m.onnx", "legacy")
    model = onnx.load(path)
    (weight,) = (node for node in model.graph.node if node.op_type == "Gemm")
    joined = onnx.helper.make_node("Concat", [weight.input[1], "nothing"], ["joined"], axis=1)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros((5, 0), np.float32), "nothing"))
    weight.input[1] = "joined"
    model.graph.node.insert(0, joined)
    onnx.save(model, path)
    target = load(str(path))
    assert sorted(value.numel() for value in target.parameters.values()) == [5, 5 * 6144]
    x = torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(target.model(x.transpose(1, 2).contiguous()), net(x), rtol=1e-4, atol=1e-6)
