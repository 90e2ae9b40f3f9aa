"""A clip is planted in the audited network itself: searches that work find it, broken ones are told."""

import pytest
import torch
from test_controls import DECISIVE, grey_noise
from torch import Tensor, nn

from auditor.attack import PRESETS
from auditor.model.forward_pass import observe as read
from auditor.model.layers import find_layers
from auditor.model.video import VideoModel
from auditor.pipeline.context import Context, observe_probes, set_up
from auditor.pipeline.planted.own_net_control import KIND, doubt, own_net_control
from auditor.pipeline.progress import Silent
from auditor.probe import moving_texture
from auditor.records import Exposure, FederatedProtocol, Fidelity, InputSpec, Target, TrainingStep
from auditor.score import Course, Grade, decide

SPEC = InputSpec(frames=4, channels=3, height=16, width=16, layout="NCTHW")
ATTACKS = PRESETS["fast"].attacks
EXPOSURE = Exposure(psnr=14.0, ceiling=14.0, prior=13.0, sigma=0.03, cap=30.0, determined=0.1)


class Frames(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.each, self.head = nn.Conv2d(3, 8, 3, 2, 1), nn.Linear(12, 2)
        self.joined = nn.GRU(512, 12, batch_first=True)

    def forward(self, clips: Tensor) -> Tensor:
        features = torch.nn.functional.gelu(self.each(clips.transpose(1, 2).flatten(0, 1)))
        return self.head(self.joined(features.flatten(1).unflatten(0, (len(clips), -1)))[0][:, -1])


def linear() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3072, 5))


def flat() -> nn.Module:
    return nn.Sequential(nn.Conv3d(3, 8, 3, 2, 1), nn.GELU(), nn.Flatten(), nn.Linear(1024, 5))


def pooled() -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(3, 12, 3, 2, 1), nn.BatchNorm3d(12), nn.ReLU(), nn.Conv3d(12, 16, 3, 1, 1), nn.ReLU(),
        nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(16, 2),
    )  # fmt: skip


class Blind(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x - 1e4)


def dead() -> nn.Module:
    return nn.Sequential(nn.Conv3d(3, 8, 3, 2, 1), Blind(), nn.Flatten(), nn.Linear(1024, 5))


def context(make, step: TrainingStep | None = None, **protocol) -> Context:
    torch.manual_seed(0)
    net = make().eval()
    model = VideoModel(net, SPEC)
    seen = read(model, torch.rand(1, *SPEC.clip_shape))
    target = Target(
        name="own", source="test", format="pytorch", sha256="", model=model, input=SPEC,
        classes=seen.output.shape[-1], layers=find_layers(net, dict(model.named_parameters()), seen.readings),
        operators={}, step=step,
        fidelity=Fidelity(
            parity_max_error=None, gradient_check=None, double_backward=True, batchnorm="none", batch="dynamic"
        ),
    )  # fmt: skip
    return set_up(target, FederatedProtocol(**protocol), torch.device("cpu"), 0)


def control(made: Context, attacks=ATTACKS):
    (observed,) = observe_probes(made, [moving_texture(SPEC, 3)])
    return own_net_control(made, observed, attacks, Silent())


@pytest.mark.parametrize(
    ("net", "attack"),
    [
        (linear, "linear-input"),
        (flat, "layer-recursion"),
        (pooled, "least-squares-matching"),
        (Frames, "least-squares-matching"),
    ],
)
def test_the_strongest_attack_finds_what_its_own_network_shows_best(net, attack):
    made = control(context(net))
    assert (made.kind, made.attack, made.passed) == (KIND, attack, True)
    assert 0.75 < float(made.measured.split("%")[0]) / 100 < 1.25
    assert doubt([made]) == ()


@pytest.mark.parametrize(
    "protocol",
    [
        {"algorithm": "FedAvg", "local_epochs": 2, "learning_rate": 0.01, "batch": 2},
        {"batch": 4, "labels": "equal"},
        {"loss": "bce"},
    ],
)
def test_it_plants_what_clients_of_the_audit_would_send(protocol):
    assert control(context(flat, **protocol)).passed is True


def test_batch_statistics_are_those_of_a_batch_that_differs():
    assert control(context(pooled, bn="train", batch=2)).passed is True


@pytest.mark.parametrize("net", [flat, pooled, Frames])
def test_a_search_that_returns_noise_is_told_and_forbids_a_pass(monkeypatch, net):
    for attack in DECISIVE.values():
        monkeypatch.setattr(attack, "invert", grey_noise)
    made = control(context(net))
    assert made.passed is False
    told = doubt([made])
    assert made.attack in told[0]
    passing = Course(grade=Grade.NOT_SHOWN, exposure=EXPOSURE, clips=2, tested_clips=2)
    assert decide(passing).word == "PASS"
    doubted = Course(grade=Grade.NOT_SHOWN, exposure=EXPOSURE, clips=2, tested_clips=2, open_questions=told)
    assert decide(doubted).word == "INCONCLUSIVE"


@pytest.mark.parametrize(("net", "sent"), [(dead, "*"), (pooled, "7.bias")])
def test_what_an_update_does_not_show_is_not_asked_for(net, sent):
    made = control(context(net, trainable=(sent,)))
    assert made.passed is None
    assert "shows in the update" in made.measured


def test_networks_that_are_too_large_are_left_out():
    made = control(context(flat, TrainingStep(operations=10**12, kept=1, weights=1)))
    assert made.passed is None
    assert "too much" in made.measured
