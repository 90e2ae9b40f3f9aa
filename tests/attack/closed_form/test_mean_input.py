"""A Linear layer on every frame, answers averaged: its update gives the mean feature, and only then."""

import pytest
import torch
from bench_nets import clip, seeded, view_of
from torch import nn

from auditor.attack.closed_form.linear_input import recover_linear_input
from auditor.attack.closed_form.mean_input import recover_mean_input
from auditor.attack.features.feature_inversion import FeatureInversion
from auditor.records import Budget, Reconstruction


class Frames(nn.Module):
    """Features of every frame, a Linear on each, and one answer of all."""

    def __init__(self, pool, act=nn.GELU) -> None:
        super().__init__()
        self.pool = pool
        self.conv = nn.Sequential(nn.Conv2d(3, 8, 5, 4, 2), act(), nn.Flatten())
        self.fc = nn.Linear(8 * 4 * 4, 10)

    def features(self, x):
        return self.conv(x[0].transpose(0, 1))

    def forward(self, x):
        return self.pool(self.fc(self.features(x)))[None]


def average(logits):
    return logits.mean(0)


def last(logits):
    return logits[-1]


def weighted(logits):
    return (logits * torch.arange(1.0, len(logits) + 1)[:, None]).mean(0)


def by_class(logits):
    return logits.max(0).values


def recovered(pool, truth):
    net = seeded(lambda: Frames(pool))
    view = view_of(net, truth[None], [3])
    layer = next(x for x in view.target.layers if x.kind == "linear")
    assert layer.rows == 4
    return net, view, layer


def test_whether_rows_count_alike_is_asked_once_of_a_client(monkeypatch):
    """It belongs to the model, and every update of an audit asks."""
    _, view, layer = recovered(average, clip(1))
    first = recover_mean_input(view, layer)
    monkeypatch.setattr(type(view.client), "__call__", lambda *_, **__: pytest.fail("a gradient was computed"))
    again = recover_mean_input(view, layer)
    assert first is not None
    assert again is not None
    assert torch.equal(first.value, again.value)


def test_the_mean_feature_of_the_frames_is_exact():
    truth = clip(1)
    net, view, layer = recovered(average, truth)
    found = recover_mean_input(view, layer)
    with torch.no_grad():
        features = net.features(truth.transpose(0, 1)[None])
    assert found is not None
    assert found.rank_one_residual < 1e-5
    assert float((found.value - features.mean(0)).norm() / features.mean(0).norm()) < 1e-5
    assert float((found.value - features[0]).norm() / features[0].norm()) > 1e-2


@pytest.mark.parametrize("pool", [last, weighted, by_class])
def test_rows_that_do_not_count_alike_are_not_taken_for_a_mean(pool):
    _, view, layer = recovered(pool, clip(1))
    alone = recover_linear_input(view, layer)
    assert (alone is None) == (pool is by_class), "of one rank, but for the maximum by class"
    assert recover_mean_input(view, layer) is None


def test_feature_inversion_descends_towards_the_mean():
    truth = clip(1)
    net, view, _ = recovered(average, truth)
    attack = FeatureInversion()
    assert attack.obstacle(view) is None
    made = attack.invert(view, Budget(seconds=60.0, steps=80), 0)
    assert isinstance(made, Reconstruction)
    assert any("averaged exactly over 4 rows" in note for note in made.notes)
    with torch.no_grad():
        wanted, seen = (net.features(x.transpose(0, 1)[None]).mean(0) for x in (truth, made.clips[0]))
    assert made.objective < 0.2 * made.trace[0].objective
    assert float((seen - wanted).square().sum() / wanted.square().sum()) == pytest.approx(made.objective, rel=1e-2)


def test_feature_inversion_ends_where_more_steps_would_not_move_the_clip():
    _, view, _ = recovered(average, clip(1))
    attack = FeatureInversion(most_steps=70, restarts=2)
    made = attack.invert(view, Budget(seconds=60.0, steps=500), 0)
    assert made.steps == attack.steps_at_most(500) == 140
    assert attack.invert(view, Budget(seconds=60.0, steps=61), 0).steps == attack.steps_at_most(61) == 122
