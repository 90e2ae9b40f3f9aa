"""Derivatives through what forward rounds or cuts, where that changes nothing of an update; else the audit is blind."""

import pytest
import torch
from torch import Tensor, nn

from auditor.model.checks.cuts import seen_through
from auditor.model.checks.slopes import Unseen, unseen
from auditor.model.forward_pass import observe
from auditor.model.video import VideoModel
from auditor.records import InputSpec

SPEC = InputSpec(frames=4, channels=3, height=8, width=8, layout="NTCHW")


def _bucket(x: Tensor) -> Tensor:
    return torch.bucketize(x.contiguous(), torch.linspace(0, 1, 9)).float() / 8


def _cut_off(x: Tensor) -> Tensor:
    with torch.no_grad():
        return (x - 0.45) / 0.225


@torch.inference_mode()
def _normalised(x: Tensor) -> Tensor:
    return (x - 0.45) / 0.225


def _inference(x: Tensor) -> Tensor:
    return _normalised(x).clone()


def _in_place(x: Tensor) -> Tensor:
    return (x * 15).round_() / 15


def _estimator(x: Tensor) -> Tensor:
    return x + (torch.round(x * 255) / 255 - x).detach()


SEEN = {
    "8 bits": lambda x: torch.round(x * 255) / 255,
    "decimals": lambda x: torch.round(x, decimals=2),
    "bytes": lambda x: (x * 255).to(torch.uint8).float() / 255,
    "whole numbers": lambda x: (x * 255).long() / 255.0,
    "high bits": lambda x: ((x * 255).byte() & 0xF0).float() / 255,
    "low bits set": lambda x: ((x * 255).int() | 15).float() / 255,
    "inference_mode": _inference,
    "shifted": lambda x: ((x * 255).int() >> 4).float() / 16,
    "posterised": lambda x: torch.div(x, 0.25, rounding_mode="floor") * 0.25,
    "whole division": lambda x: x // 0.1,
    "rest taken off": lambda x: x - x % 0.125,
    "in place": _in_place,
    "no_grad": _cut_off,
    "detached": lambda x: (x - 0.45).detach() / 0.225,
    "data": lambda x: x.data * 2 - 1,
}
BLIND = {
    "bucketize": _bucket,
    "threshold": lambda x: (x > 0.5).float(),
    "table": lambda x: torch.linspace(-1, 1, 16)[(x * 15).long()],
}


class Net(nn.Module):
    def __init__(self, before) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.before, self.body, self.head = before, nn.Conv3d(4, 6, 3, 2, 1), nn.Linear(6 * 32, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.before(x)).tanh().flatten(1))


def model_of(network: nn.Module) -> VideoModel:
    return VideoModel(network.eval(), SPEC)


def clip() -> Tensor:
    return torch.rand(1, 4, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def hidden(model: VideoModel) -> Unseen:
    x = clip().requires_grad_()
    seen = observe(model, x)
    return unseen(model, x, {name for reading in seen.readings for name in reading.parameters}, seen.output)


def gradients(model: VideoModel, x: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(model(x).square().sum(), list(model.parameters())))


@pytest.mark.parametrize("name", SEEN)
def test_an_update_stays_the_same_and_pixels_gain_a_slope(name) -> None:
    plain = model_of(Net(SEEN[name]))
    found = seen_through(plain, clip())
    assert found.model.sees_through
    assert found.frozen == ()
    assert found.note
    torch.testing.assert_close(gradients(plain, clip()), gradients(found.model, clip()), rtol=1e-5, atol=1e-7)
    x = clip().requires_grad_()
    (slope,) = torch.autograd.grad(found.model(x).sum(), x)
    assert float((slope != 0).float().mean()) > 0.9
    assert hidden(found.model).blind == ()
    assert hidden(plain).blind


@pytest.mark.parametrize("name", BLIND)
def test_what_cannot_be_seen_through_makes_blind(name) -> None:
    found = seen_through(model_of(Net(BLIND[name])), clip())
    assert not found.model.sees_through
    assert "no slope in its pixels" in hidden(found.model).blind[0]


def test_frames_and_channels_without_slope_make_blind_too() -> None:
    half = model_of(Net(lambda x: torch.cat([x[:, :2], _bucket(x[:, 2:])], 1)))
    assert hidden(half).blind[0].startswith("2 of 4 frames")
    red = model_of(Net(lambda x: torch.cat([_bucket(x[:, :, :1]), x[:, :, 1:]], 2)))
    assert hidden(red).blind[0].startswith("1 of 3 channels")


def test_a_clip_that_is_clamped_almost_everywhere_makes_blind_too() -> None:
    steep = model_of(Net(lambda x: nn.functional.hardtanh(x * 200 - 100)))
    assert "of the pixels of noise" in hidden(steep).blind[0]
    usual = model_of(Net(lambda x: nn.functional.hardtanh(x * 2 - 1)))
    assert hidden(usual).blind == ()


def test_a_pool_over_pixels_makes_nobody_blind() -> None:
    pooled = model_of(Net(lambda x: nn.functional.interpolate(nn.functional.max_pool3d(x, (1, 2, 2)), (3, 8, 8))))
    assert hidden(pooled).blind == ()


def test_frames_that_are_not_read_make_nobody_blind() -> None:
    skipping = model_of(Net(lambda x: torch.cat([x[:, :2], torch.zeros_like(x[:, 2:])], 1)))
    assert hidden(skipping).blind == ()


@pytest.mark.parametrize("before", [lambda x: x, _estimator, nn.Identity()])
def test_a_net_with_slopes_of_its_own_stays_as_it_is(before) -> None:
    found = seen_through(model_of(Net(before)), clip())
    assert (found.model.sees_through, found.frozen, found.note) == (False, (), "")


class Truncated(nn.Module):
    """Backpropagation through time that is cut at every frame: what clients send is the gradient of the cut graph."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.cell, self.head = nn.GRUCell(3 * 64, 8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        state = x.new_zeros(len(x), 8)
        for frame in x.unbind(1):
            state = self.cell(frame.flatten(1), state.detach())
        return self.head(state)


def test_a_cut_that_changes_what_clients_send_is_left_and_frames_are_told() -> None:
    found = seen_through(model_of(Truncated()), clip())
    assert not found.model.sees_through
    assert hidden(found.model).blind[0].startswith("3 of 4 frames")


class Quantised(nn.Module):
    """Features are rounded behind a layer with parameters, so nobody trains that layer: its gradient is zero."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.head = nn.Conv3d(4, 6, 3, 2, 1), nn.Linear(6 * 32, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.round(self.body(x) * 16).flatten(1) / 16)


def test_layers_below_a_rounding_are_frozen() -> None:
    plain = model_of(Quantised())
    found = seen_through(plain, clip())
    assert found.frozen == ("body.weight", "body.bias")
    x = clip().requires_grad_()
    assert bool(torch.autograd.grad(found.model(x).sum(), x)[0].any())


def test_gradient_mode_is_what_it_was_after_a_forward_that_cuts() -> None:
    found = seen_through(model_of(Net(_cut_off)), clip())
    for on in (True, False):
        with torch.set_grad_enabled(on):
            found.model(clip())
            assert torch.is_grad_enabled() is on


@pytest.mark.filterwarnings("ignore:.*torch.jit.*")
@pytest.mark.parametrize("name", ["8 bits", "bytes", "posterised"])
def test_an_archive_that_rounds_makes_blind(name) -> None:
    """What runs inside TorchScript cannot be replaced from outside."""
    archive = VideoModel(torch.jit.trace(Net(SEEN[name]).eval(), clip()), SPEC)
    found = seen_through(archive, clip())
    assert not found.model.sees_through
    x = clip().requires_grad_()
    logits = archive(x)
    names = {name for name, _ in archive.named_parameters()}
    assert "no slope in its pixels" in unseen(archive, x, names, logits).blind[0]
