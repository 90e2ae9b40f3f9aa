"""Fresh nets: exporters merge what holds equal numbers, and clients train each by itself."""

import pytest
import torch
import witness
from torch import Tensor, nn
from zoo import export

from auditor.model import load

SHAPE = (3, 8, 16, 16)


class Fresh(nn.Module):
    """Norms as they are made (one in two places), and three layers that begin alike, two of them tied."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(768, 16)
        self.first, self.last = nn.LayerNorm(16), nn.LayerNorm(16)
        self.a, self.b = nn.Linear(16, 16), nn.Linear(16, 16)
        self.b.weight = self.a.weight
        self.c = nn.Linear(16, 16)
        self.c.load_state_dict(self.a.state_dict())
        self.again = self.first
        self.gate, self.shift = nn.Parameter(torch.ones(16)), nn.Parameter(torch.zeros(16))
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(self.embed(x.transpose(1, 2).flatten(2)))
        x = torch.tanh(self.c(torch.tanh(self.b(torch.tanh(self.a(x))))))
        return self.head(self.last(self.again(x) * self.gate + self.shift).mean(1))


@pytest.mark.parametrize("exporter", ["legacy", "dynamo"])
def test_merged_norms_are_taken_apart_and_tied_weights_stay_one(exporter, tmp_path) -> None:
    torch.manual_seed(0)
    net = Fresh().eval()
    target = load(str(export(net, tmp_path / "m.onnx", exporter)))
    x = torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(1))
    theirs = witness.gradients(net, x)
    ours = witness.gradients(target.model, x.transpose(1, 2).contiguous())
    theirs |= {f"again.{leaf}": theirs[f"first.{leaf}"] for leaf in ("weight", "bias")}  # dynamo takes the last name
    shared = "again" if "again.weight" in ours else "first"
    for name in (f"{shared}.weight", f"{shared}.bias", "last.weight", "last.bias", "a.bias", "c.bias", "gate", "shift"):
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-4, atol=1e-7)
    assert not torch.allclose(theirs["first.weight"], theirs["last.weight"], rtol=0.1)
    notes = " ".join(target.fidelity.notes)
    assert "each is its own again" in notes
    if exporter == "dynamo":  # it records for every node which parameter it stands for
        assert "serves" not in notes
    else:
        assert "too and is one parameter here" in notes


@pytest.mark.parametrize("exporter", ["legacy-training", "dynamo-plain"])
def test_a_faithful_export_needs_no_guessing(exporter, tmp_path) -> None:
    torch.manual_seed(0)
    net = Fresh().eval()
    target = load(str(export(net, tmp_path / "m.onnx", exporter)))
    x = torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(1))
    theirs, ours = witness.gradients(net, x), witness.gradients(target.model, x.transpose(1, 2).contiguous())
    assert len(ours) == len(theirs)
    for name in ours.keys() & theirs.keys():
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-4, atol=1e-7)
    assert not any("merged" in note or "one parameter here" in note for note in target.fidelity.notes)
