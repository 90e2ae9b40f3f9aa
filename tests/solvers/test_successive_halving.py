"""Successive halving spends what it may, lets the better ways go on, and judges all by one score."""

import dataclasses

import pytest
import torch
from bench_nets import clip, flat, pooled, seeded, view_of
from torch import nn
from torch.nn import functional as F

from auditor.attack.matching.gradient_matching import MODE_MATCHING
from auditor.attack.matching.objective import Cosine, RowCosine, row_weights
from auditor.attack.matching.search_configuration import (
    NONSMOOTH_CONFIGURATIONS,
    SMOOTH_CONFIGURATIONS,
    SearchConfiguration,
)
from auditor.attack.matching.surrogate_gradient import NonsmoothFunctions
from auditor.records import Budget, Reconstruction, charge
from auditor.solvers.parametrisation import Pixels
from auditor.solvers.successive_halving import plan, run_halving

BUDGET = Budget(seconds=120.0, steps=240)


def gradients(seed: int) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return {"w": torch.randn(3, 4, 2, generator=g) * torch.tensor([1.0, 0.1, 9.0]).view(3, 1, 1),
            "b": torch.randn(3, generator=g)}  # fmt: skip


def test_the_row_weighted_cosine_is_the_cosine_of_weighted_vectors():
    a, b = gradients(0), gradients(1)
    assert float(RowCosine(0.0)(a, b)) == pytest.approx(float(Cosine()(a, b)), abs=1e-6)
    # alpha = 1 scales every row of both by the observed row's inverse length.
    x = torch.cat([(a["w"].flatten(1) / b["w"].flatten(1).norm(dim=1, keepdim=True)).flatten(), a["b"] / b["b"].norm()])
    y = torch.cat([(b["w"].flatten(1) / b["w"].flatten(1).norm(dim=1, keepdim=True)).flatten(), b["b"] / b["b"].norm()])
    assert float(RowCosine(1.0)(a, b)) == pytest.approx(1 - float(F.cosine_similarity(x, y, dim=0)), abs=5e-3)
    assert abs(float(RowCosine()(b, b))) < 1e-6
    assert row_weights(torch.zeros(3, 2), 0.5).tolist() == [0.0, 0.0, 0.0]
    assert bool(torch.isfinite(row_weights(torch.tensor([[0.0, 0.0], [1.0, 2.0]]), 1.0)).all())


@pytest.mark.parametrize("steps", [1, 60, 200, 500, 3000])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_the_plan_spends_all_steps_and_ends_with_one(count, steps):
    rungs = plan(count, steps)
    assert sum(r.enter * r.steps for r in rungs) == steps
    assert rungs[-1].enter == 1
    assert rungs[-1].steps >= 0.49 * steps
    assert [r.enter for r in rungs] == sorted({r.enter for r in rungs}, reverse=True)


def test_the_way_that_scores_best_goes_on_and_the_result_is_its_own():
    goal = clip(4)[None]
    slow, fast = (SearchConfiguration(name=name, parametrisation=Pixels()) for name in ("slow", "fast"))

    def objective(way):
        def distance(x, progress):
            value = (x - goal).square().mean()
            # The slow way is sent uphill, and is judged like the other.
            return (-value if way.name == "slow" else value), value.detach()

        return distance

    budget = dataclasses.replace(BUDGET, steps=200)
    played = run_halving(objective, lambda x: x.sum() * 0, (slow, fast), torch.full_like(goal, 0.5), budget, 10)
    assert not isinstance(played, float)
    assert played.steps == 200
    assert played.run.objective < 1e-3
    assert "fast" in played.notes[0].split("slow")[0]
    assert played.run.steps < 200
    assert [t.step for t in played.run.trace] == sorted(t.step for t in played.run.trace)
    assert float((played.run.clips - goal).square().mean()) < 1e-3


def test_a_budget_without_enough_steps_says_how_long_one_takes():
    def objective(way):
        def slow(x, progress):
            charge(0.02)
            return x.square().sum(), x.square().sum().detach()

        return slow

    x = torch.rand(1, 2, 1, 4, 4)
    pace = run_halving(
        objective, lambda x: x.sum() * 0, NONSMOOTH_CONFIGURATIONS, x, Budget(seconds=0.3, steps=1000), 60
    )
    assert isinstance(pace, float)
    assert pace >= 0.02


@pytest.mark.parametrize(
    ("net", "kinked"),
    [
        (nn.GELU(), False), (nn.Sequential(nn.SiLU(), nn.AvgPool3d(1), nn.Tanh()), False),
        (nn.ReLU(), True), (nn.ReLU(inplace=True), True), (nn.MaxPool3d(1), True), (nn.LeakyReLU(), True),
        (nn.Hardswish(), True), (nn.AdaptiveMaxPool3d(1), True),
    ],
)  # fmt: skip
def test_kinks_are_seen(net, kinked):
    with NonsmoothFunctions() as seen:
        net(torch.rand(1, 2, 2, 2, 2) + 0.0)
    assert bool(seen.seen) is kinked


@pytest.mark.parametrize(("net", "names"), [(flat, SMOOTH_CONFIGURATIONS), (pooled, NONSMOOTH_CONFIGURATIONS)])
def test_smooth_nets_and_others_get_their_own_ways(net, names):
    view = view_of(seeded(net), clip(5)[None], [3])
    attack = MODE_MATCHING
    made = attack.invert(view, dataclasses.replace(BUDGET, steps=200), 0)
    assert isinstance(made, Reconstruction)
    assert made.steps == 200
    said = {name for name in (w.name for w in names) if any(name in note for note in made.notes)}
    assert len(said) >= 2
    assert float(made.clips.min()) >= 0.0
    assert float(made.clips.max()) <= 1.0
    again = attack.invert(view, dataclasses.replace(BUDGET, steps=200), 0)
    assert torch.equal(made.clips, again.clips)
