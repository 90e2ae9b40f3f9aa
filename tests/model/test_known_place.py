"""An operation that was found once is read again without looking at any other."""

import pytest
import torch
from torch import nn

from auditor.model import video
from auditor.model.video import VideoModel
from auditor.records import InputSpec

SPEC = InputSpec(frames=2, channels=3, height=4, width=4, layout="NCTHW")


class _Net(nn.Module):
    """Doubles what its head reads by one more operation while `longer`; `scaled` weights are made anew each time."""

    def __init__(self, scaled: bool = False) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(96, 8), nn.Linear(8, 5)
        self.longer, self.scaled = False, scaled

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.body(x.flatten(1)).relu()
        x = x * 2.0 if self.longer else x
        return nn.functional.linear(x, self.head.weight * 3.0) if self.scaled else self.head(x)


def _slope(model: VideoModel, clips: torch.Tensor) -> tuple[torch.Tensor, ...]:
    seen, made = model.inputs_of("head.weight", clips)
    return seen, made, torch.autograd.grad(made.square().sum(), clips)[0]


def _same(ours: tuple[torch.Tensor, ...], theirs: tuple[torch.Tensor, ...]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.fixture
def clips() -> torch.Tensor:
    return torch.rand(1, 2, 3, 4, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()


def test_a_second_reading_is_the_same_and_watches_nothing(clips, monkeypatch):
    model = VideoModel(_Net(), SPEC)
    first = _slope(model, clips)
    monkeypatch.setattr(video, "observe", None)
    assert _same(_slope(model, clips), first)


def test_a_pass_that_goes_another_way_is_watched_again(clips):
    net = _Net()
    model = VideoModel(net, SPEC)
    seen, *_ = _slope(model, clips)
    for net.longer in (True, False):
        assert torch.equal(_slope(model, clips)[0], seen * 2.0 if net.longer else seen)


def test_weights_that_are_made_anew_are_watched_for_every_time(clips):
    model = VideoModel(_Net(scaled=True), SPEC)
    assert _same(_slope(model, clips), _slope(model, clips))
