"""Parts of a network without gradient: frozen and computed through where that changes no update, else told."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from auditor.errors import NotAuditable, UsageError
from auditor.model import load


class Backbone(nn.Module):
    """Frames through two small layers, then a recurrent head; `how` says what forward does to their gradient."""

    input_shape, layout = (4, 3, 16, 16), "NTCHW"

    def __init__(self, how: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.how = how
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(4, 4, 3, 2, 1), nn.ReLU(), nn.Flatten())
        self.lstm, self.head, self.early = nn.LSTM(64, 6, batch_first=True), nn.Linear(6, 5), nn.Linear(64, 5)

    def features(self, x: Tensor) -> Tensor:
        if self.how == "inference_mode":
            with torch.inference_mode():
                f = self.stem(x)
            return self.body(f.clone())
        if self.how == "closed":
            self.stem.requires_grad_(False)
        if self.how == "constant weights":
            f = nn.functional.conv2d(x, self.stem[0].weight.detach(), self.stem[0].bias.detach(), 2, 1)
            return self.body(f.relu())
        if self.how == "left on":
            torch.set_grad_enabled(False)
            f = self.stem(x)
            torch.set_grad_enabled(True)
            return self.body(f)
        if self.how == "all":
            with torch.no_grad():
                return self.body(self.stem(x))
        return self.body(self.stem(x))

    def forward(self, x: Tensor) -> Tensor:
        f = self.features(x.flatten(0, 1)).view(len(x), x.shape[1], -1)
        if self.how == "between":  # the body learns by the early head alone
            return self.head(self.lstm(f.detach())[0][:, -1]) + self.early(f).mean(1)
        logits = self.head(self.lstm(f)[0][:, -1])
        return logits.detach() if self.how == "all" else logits


BACKBONE = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_backbones import Backbone
def net(how): return Backbone(how)
"""


@pytest.fixture(scope="module")
def backbone(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("backbone") / "nets.py"
    path.write_text(BACKBONE)
    return f"{path}:net"


@pytest.mark.parametrize("how", ["inference_mode", "closed", "constant weights", "left on"])
def test_a_stem_without_gradient_is_frozen_and_computed_through(how, backbone) -> None:
    target = load(backbone, arg=(("how", how),))
    assert target.frozen == ("stem.0.weight", "stem.0.bias")
    assert target.fidelity.blind == ()
    assert target.fidelity.unaccounted.without_gradient == 0
    x = torch.rand(1, 4, 3, 16, 16, generator=torch.Generator().manual_seed(1)).requires_grad_()
    (plain,) = torch.autograd.grad(Backbone("plain")(x).square().sum(), x)
    (slope,) = torch.autograd.grad(target.model(x).square().sum(), x)
    torch.testing.assert_close(slope, plain, rtol=1e-4, atol=1e-7)


def test_a_cut_between_parts_that_train_makes_blind(backbone) -> None:
    """The early head's gradient reaches the body; what the recurrent layer reads of it has no slope."""
    target = load(backbone, arg=(("how", "between"),))
    assert target.frozen == ()
    assert "between parts that both train" in target.fidelity.blind[0]


def test_logits_without_any_gradient_are_refused(backbone) -> None:
    with pytest.raises(NotAuditable, match="the logits have no gradient"):
        load(backbone, arg=(("how", "all"),))


LAZY = """
from torch import nn

def lazy():
    net = nn.Sequential(nn.Flatten(), nn.LazyLinear(5))
    net.input_shape = (3, 4, 8, 8)
    return net
"""


def test_a_lazy_network_is_told_to_run_once(tmp_path) -> None:
    (tmp_path / "lazy.py").write_text(LAZY)
    with pytest.raises(UsageError, match="has no shape yet"):
        load(f"{tmp_path / 'lazy.py'}:lazy")
