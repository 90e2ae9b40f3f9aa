"""Parameters before training, whose numbers repeat, and parameters of a net whose names begin with a number."""

import pytest
import torch
import witness
from torch import Tensor, nn
from torch.nn.utils import spectral_norm
from zoo import export

from auditor.model import load

SHAPE = (3, 4, 16, 16)


class Scale(nn.Module):
    """What LayerScale multiplies by."""

    def __init__(self, channels: int, value: float = 0.1) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((channels,), value))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma.view(1, -1, 1, 1, 1)


def root(affine: bool = True) -> nn.Sequential:
    torch.manual_seed(0)
    stem = nn.Sequential(nn.Conv3d(3, 6, 3, 2, 1), nn.GroupNorm(2, 6, affine=affine), Scale(6))
    return nn.Sequential(stem, nn.ReLU(), nn.Flatten(), nn.Linear(6 * 128, 5), nn.LayerNorm(5)).eval()


def compared(net: nn.Module, path: str) -> tuple[list[str], list[Tensor]]:
    """Return names of the loaded parameters, and check that each has the gradient of one of the net's own."""
    target = load(path, input_shape=SHAPE, layout="NCTHW")
    x = torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(1))
    theirs, ours = witness.gradients(net, x), witness.gradients(target.model, x.transpose(1, 2).contiguous())
    flat = [gradient.flatten() for gradient in theirs.values()]
    for name, gradient in ours.items():
        found = gradient.flatten()
        least = 1e-4 * float(found.abs().max())  # float32, through a norm whose slopes cancel
        same = [g for g in flat if g.shape == found.shape and torch.allclose(g, found, 1e-3, least)]
        assert same, name
    return list(ours), target.fidelity.notes


@pytest.mark.parametrize("exporter", ["dynamo", "dynamo-plain", "legacy"])
def test_fresh_norms_and_scales_of_a_root_sequential_are_found(exporter, tmp_path) -> None:
    net = root()
    names, _ = compared(net, str(export(net, tmp_path / "m.onnx", exporter, SHAPE)))
    assert len(names) == len(list(net.parameters())) == 9


@pytest.mark.parametrize("exporter", ["dynamo", "legacy"])
def test_a_norm_without_parameters_gets_none(exporter, tmp_path) -> None:
    net = root(affine=False)
    names, _ = compared(net, str(export(net, tmp_path / "m.onnx", exporter, SHAPE)))
    assert len(names) == 7


def test_repeated_numbers_that_count_as_trained_are_told(tmp_path) -> None:
    net = root()
    _, notes = compared(net, str(export(net, tmp_path / "m.onnx", "legacy", SHAPE)))
    assert any("one number repeated" in note for note in notes)


@pytest.mark.parametrize("transposed", [False, True])
def test_spectral_norm_has_one_weight_and_no_trained_vectors(transposed, tmp_path) -> None:
    """The exporter keeps the weight, and once more as the matrix whose norm is taken."""
    torch.manual_seed(0)
    layer = nn.ConvTranspose3d(3, 6, 3, 2, 1) if transposed else nn.Conv3d(3, 6, 3, 2, 1)
    net = nn.Sequential(spectral_norm(layer), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(6, 5))
    names, notes = compared(net.eval(), str(export(net.eval(), tmp_path / "m.onnx", "legacy", SHAPE)))
    assert set(names) == {"0.weight_orig", "0.bias", "4.weight", "4.bias"}
    assert any("spectral normalisation: '0.weight_u'" in note for note in notes)


def test_a_weight_that_serves_twice_is_one_parameter(tmp_path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head = nn.Linear(768, 6), nn.Linear(768, 5)

        def forward(self, x: Tensor) -> Tensor:
            code = torch.tanh(self.embed(x.transpose(1, 2).flatten(2)))
            return self.head(torch.tanh(code @ self.embed.weight).mean(1))

    torch.manual_seed(0)
    net = Tied().eval()
    names, _ = compared(net, str(export(net, tmp_path / "m.onnx", "legacy", SHAPE)))
    assert len(names) == 4


def test_fresh_statistics_are_no_parameters_where_the_exporter_merged_them(tmp_path) -> None:
    """Before training scale and variance are ones, shift and mean zeros: dynamo writes one constant for two."""
    torch.manual_seed(0)
    norm = nn.InstanceNorm3d(6, affine=True, track_running_stats=True)
    net = nn.Sequential(nn.Conv3d(3, 6, 3, 2, 1), norm, nn.ReLU(), nn.Flatten(), nn.Linear(6 * 128, 5)).eval()
    names, _ = compared(net, str(export(net, tmp_path / "m.onnx", "dynamo", SHAPE)))
    assert len(names) == 6
