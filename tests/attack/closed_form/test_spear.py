"""SPEAR recovers batches exactly behind a ReLU, knows when it did, and refuses what it cannot do."""

import dataclasses

import pytest
import torch
from bench_nets import SPEC, clip, flat, psnr, seeded, view_of
from torch import nn

from auditor.attack.closed_form.relu_batch import CERTAIN, recover_relu_batch
from auditor.attack.closed_form.spear import SpearInversion, recover_batch
from auditor.probe.real import shipped_probes
from auditor.records import Budget, Outcome, Reconstruction, Skipped, Update

BUDGET = Budget(seconds=40.0, steps=1)


def relu_head() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(4 * 3 * 16 * 16, 200), nn.ReLU(), nn.Linear(200, 10))


def gelu_head() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(4 * 3 * 16 * 16, 100), nn.GELU(), nn.Linear(100, 10))


def feature_head() -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(3, 12, 3, padding=1, stride=2), nn.Tanh(), nn.Flatten(), nn.Linear(12 * 2 * 8 * 8, 60), nn.ReLU(),
        nn.Linear(60, 10),
    )  # fmt: skip


def batch(count):
    return torch.stack([clip(i) for i in range(count)])


def by_hand(rows, units, features, seed=0):
    """Return inputs, and the gradient of a ReLU layer with random slopes behind it: an independent witness."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, features, generator=g, dtype=torch.float64)
    w = torch.randn(units, features, generator=g, dtype=torch.float64) / features**0.5
    b = 0.1 * torch.randn(units, generator=g, dtype=torch.float64)
    slopes = torch.randn(rows, units, generator=g, dtype=torch.float64) * (x @ w.T + b > 0)
    return x, slopes.T @ x, slopes.sum(0), w, b


def in_order(found, truth):
    return found[torch.cdist(found.double(), truth.double()).argmin(0)]


@pytest.mark.parametrize("rows", [2, 5, 8])
def test_a_product_made_by_hand_is_factored(rows):
    x, dw, db, w, b = by_hand(rows, 80, 50)
    found = recover_relu_batch(dw, db, w, b, batch=rows, seed=0, seconds=40.0)
    assert not isinstance(found, str)
    assert found.agreement >= CERTAIN
    assert found.residual < 1e-9
    assert torch.allclose(in_order(found.inputs, x), x, atol=1e-8)


def test_eight_real_clips_are_exact_from_float32_gradients():
    # As video nets are fed; without it all clips open much the same units.
    spec = dataclasses.replace(SPEC, mean=(0.45,) * 3, std=(0.225,) * 3)
    real = [p.clip for p in shipped_probes(spec)]
    clips = torch.stack([*real, clip(1)])
    labels = [3, 1, 4, 1, 5, 9, 2, 6]
    attack = SpearInversion()
    view = view_of(seeded(relu_head), clips, labels, known=False, spec=spec)
    assert attack.obstacle(view) is None
    made = attack.invert(view, BUDGET, 0)
    assert isinstance(made, Reconstruction), made
    assert made.outcome is Outcome.SOLVED
    assert made.certificate["relu_agreement"] >= CERTAIN
    nearest = torch.cdist(made.clips.flatten(1), clips.flatten(1)).argmin(0)
    assert sorted(nearest.tolist()) == list(range(8))
    assert all(psnr(made.clips[i], truth) > 60.0 for i, truth in zip(nearest, clips, strict=True))
    # The slopes tell which clip has which label, although none was known.
    assert [made.labels[i] for i in nearest] == labels


def wide_feature_head() -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(3, 12, 3, padding=1, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(12 * 2 * 8 * 8, 300), nn.ReLU(),
        nn.Linear(300, 10),
    )  # fmt: skip


@pytest.mark.parametrize("make", [relu_head, wide_feature_head])
def test_what_stands_behind_the_relu_finds_inputs_that_are_alike(make):
    """Windows of few scenes, pixels in [0, 1]: hardly a unit is open for one and shut for another."""
    spec = dataclasses.replace(SPEC, frames=12)
    windows = [p.clip[i : i + 4] for p in shipped_probes(spec)[:3] for i in (0, 8)]
    view = view_of(seeded(make), torch.stack(windows), [3, 1, 4, 1, 5, 9])
    layer = next(x for x in view.target.layers if x.kind == "linear")
    found = recover_batch(view, layer, 0, 20.0)
    assert not isinstance(found, str)
    assert found[1].agreement >= CERTAIN
    with torch.no_grad():
        seen = view.target.model.inputs_of(found[0], torch.stack(windows))[0].double()
    assert float((in_order(found[1].inputs, seen) - seen).norm() / seen.norm()) < 1e-3


def test_the_same_seed_gives_the_same_clips():
    view = view_of(seeded(relu_head), batch(3), [1, 1, 2])
    a, b = (SpearInversion().invert(view, BUDGET, 5) for _ in range(2))
    assert isinstance(a, Reconstruction)
    assert isinstance(b, Reconstruction)
    assert torch.equal(a.clips, b.clips)


def test_features_are_recovered_but_are_not_called_clips():
    net = seeded(feature_head)
    view = view_of(net, batch(3), [1, 2, 3])
    layer = next(x for x in view.target.layers if x.kind == "linear")
    found = recover_batch(view, layer, 0, 40.0)
    assert not isinstance(found, str)
    with torch.no_grad():
        features = net[:3](batch(3).transpose(1, 2)).double()
    assert float((in_order(found[1].inputs, features) - features).norm() / features.norm()) < 1e-4
    made = SpearInversion().invert(view, BUDGET, 0)
    assert isinstance(made, Skipped)
    assert "not pixels" in made.reason


def test_another_activation_is_never_called_solved():
    made = SpearInversion().invert(view_of(seeded(gelu_head), batch(4), [1, 2, 3, 4]), Budget(seconds=3.0, steps=1), 0)
    assert isinstance(made, Skipped) or made.outcome is Outcome.UNVERIFIED


def test_clips_of_another_update_are_not_found():
    """Null control."""
    made = SpearInversion().invert(view_of(seeded(relu_head), batch(2), [1, 2]), BUDGET, 0)
    assert isinstance(made, Reconstruction)
    assert max(psnr(made.clips[i], clip(9)) for i in range(2)) < 25.0


@pytest.mark.parametrize("value", [float("nan"), 0.0])
def test_gradients_that_say_nothing_are_skipped(value):
    view = view_of(seeded(relu_head), batch(2), [1, 2])
    gradients = {n: torch.full_like(g, value) for n, g in view.update.gradients.items()}
    made = SpearInversion().invert(dataclasses.replace(view, update=Update(gradients=gradients, batch=2)), BUDGET, 0)
    assert isinstance(made, Skipped)
    assert ("finite" in made.reason) or ("zero" in made.reason)


@pytest.mark.parametrize(
    ("make", "count", "sent", "why"),
    [
        (relu_head, 1, None, "one clip"),
        (relu_head, 26, None, "26 clips"),
        (lambda: nn.Sequential(nn.Conv3d(3, 10, 4), nn.AdaptiveAvgPool3d(1), nn.Flatten()), 2, None, "no Linear"),
    ],
)
def test_what_it_cannot_do_is_told(make, count, sent, why):
    view = view_of(seeded(make), batch(count), [1] * count, sent=sent)
    assert why in (SpearInversion().obstacle(view) or "")


def test_a_frozen_bias_and_grey_clips_are_skipped():
    frozen = view_of(seeded(relu_head), batch(2), [1, 2], sent=["1.weight"])
    made = SpearInversion().invert(frozen, BUDGET, 0)
    assert isinstance(made, Skipped)
    assert "not both sent" in made.reason
    grey = view_of(seeded(relu_head), torch.full((2, 4, 3, 16, 16), 0.5), [1, 1])
    made = SpearInversion().invert(grey, BUDGET, 0)
    assert isinstance(made, Skipped)
    assert "rank below 2" in made.reason


def test_a_net_without_linear_on_pixels_says_so():
    made = SpearInversion().invert(view_of(seeded(flat), batch(2), [1, 2]), Budget(seconds=2.0, steps=1), 0)
    assert isinstance(made, Skipped)
