"""Units that are shut: outputs stay exact, gradients pass, and a search that starts in the dark gets out."""

import dataclasses

import pytest
import torch
from attack_cases import SPEC
from bench_nets import clip, seeded
from extractor_nets import mlp, two_part, view_of_parts
from torch import nn
from torch.nn import functional as F

from auditor.attack.features.dead_units import OpenUnits
from auditor.attack.features.feature_inversion import FeatureInversion
from auditor.attack.start import Grey
from auditor.records import Budget

CASES = {
    "relu": (torch.relu, 0.0, None),
    "relu module": (nn.ReLU(), 0.0, None),
    "in place": (nn.ReLU(inplace=True), 0.0, None),
    "relu6": (nn.ReLU6(), 0.0, 6.0),
    "relu6 in place": (nn.ReLU6(inplace=True), 0.0, 6.0),
    "hardtanh": (nn.Hardtanh(-0.5, 2.0), -0.5, 2.0),
    "hardtanh default": (F.hardtanh, -1.0, 1.0),
    "clamp": (lambda x: x.clamp(0.0, 6.0), 0.0, 6.0),
    "clamp of a tensor": (lambda x: torch.clamp(x, min=torch.tensor(0.0)), 0.0, None),
}


@pytest.mark.parametrize("name", CASES)
def test_outputs_are_exact_and_flat_parts_pass_a_tenth(name):
    function, low, high = CASES[name]
    x = torch.linspace(-9.0, 9.0, 37, dtype=torch.float64) + 0.01
    with OpenUnits(0.1):
        leaf = x.clone().requires_grad_(True)
        out = function(leaf * 1.0)
        (slope,) = torch.autograd.grad(out.sum(), leaf)
    assert torch.equal(out.detach(), x.clamp(low, high))
    inside = (x > low) & (x < (9e9 if high is None else high))
    assert torch.allclose(slope, torch.where(inside, 1.0, 0.1).double())


def test_a_search_that_starts_where_all_units_are_shut_gets_out():
    spec = dataclasses.replace(SPEC, frames=3, height=16, width=16, layout="NCHW")

    def shut() -> nn.Module:
        net = nn.Sequential(nn.Conv2d(3, 16, 4, 2), nn.ReLU6(), nn.Conv2d(16, 16, 3, 2), nn.ReLU6(), nn.Flatten())
        with torch.no_grad():
            # Grey gives zeros everywhere; so do not scenes, whose edges open units.
            net[0].bias.copy_(-0.5 * net[0].weight.sum((1, 2, 3)) - 0.02)
            net[2].bias.fill_(-0.01)
        return net

    target = two_part(seeded(shut), seeded(lambda: mlp(3 * 144)), spec, "flatten")
    truth = clip(1, spec)
    with torch.no_grad():
        assert float(target.model.features(torch.full_like(truth[None], 0.5)).abs().max()) == 0.0
        assert float(target.model.features(truth[None]).abs().max()) > 0.0
    view = view_of_parts(target, truth[None], [3])
    made = FeatureInversion(start=Grey(noise=0.0)).invert(view, Budget(seconds=60.0, steps=120), 0)
    assert made.trace[0].objective == pytest.approx(1.0)
    assert made.objective < 0.5
