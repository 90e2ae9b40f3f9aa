"""Gradient matching recovers, repeats itself, chooses blindly and never sees the truth."""

import dataclasses

import pytest
import torch
from bench_nets import clip, flat, pooled, psnr, seeded, view_of

from auditor.attack import PRESETS, GradientMatching
from auditor.attack.features.feature_inversion import FeatureInversion
from auditor.records import Budget, Knowledge, Reconstruction, Skipped, Update, View

BUDGET = Budget(seconds=60.0, steps=150)


@pytest.mark.parametrize("attack", [GradientMatching(), FeatureInversion()], ids=lambda a: a.name)
def test_a_leaky_net_leaks(attack):
    truth = clip(5)
    view = view_of(seeded(flat), truth[None], [3])
    assert attack.obstacle(view) is None
    made = attack.invert(view, BUDGET, 0)
    assert isinstance(made, Reconstruction)
    # Measured over ten nets and clips: 5.3 to 8.0 dB over grey.
    assert psnr(made.clips[0], truth) > psnr(torch.full_like(truth, 0.5), truth) + 4.0


def test_the_same_seed_gives_the_same_clip():
    view = view_of(seeded(flat), clip(5)[None], [3])
    a, b = (GradientMatching().invert(view, dataclasses.replace(BUDGET, steps=70), 7) for _ in range(2))
    assert isinstance(a, Reconstruction)
    assert isinstance(b, Reconstruction)
    assert torch.equal(a.clips, b.clips)


def test_the_restart_with_the_lowest_objective_wins():
    view = view_of(seeded(pooled), clip(5)[None], [3])
    made = GradientMatching(restarts=3).invert(view, dataclasses.replace(BUDGET, steps=70), 0)
    assert isinstance(made, Reconstruction)
    assert len(made.restart_objectives) == 3
    assert made.objective == min(made.restart_objectives)


def test_too_few_steps_are_told_from_too_little_time():
    view = view_of(seeded(flat), clip(5)[None], [3])
    few = GradientMatching().invert(view, dataclasses.replace(BUDGET, steps=3), 0)
    late = GradientMatching().invert(view, dataclasses.replace(BUDGET, seconds=1e-3), 0)
    assert isinstance(few, Skipped)
    assert isinstance(late, Skipped)
    assert "3 steps at most" in few.reason
    assert few.remedy == "allow 60 steps or more"
    assert "--max-time" in late.remedy


def test_no_record_that_an_attack_gets_can_hold_the_truth():
    fields = {f.name for kind in (View, Update, Knowledge) for f in dataclasses.fields(kind)}
    assert fields == {
        "target", "client", "update", "knowledge",
        "gradients", "batch", "precision", "buffers",
        "clip_shape", "classes", "threat_model", "labels", "labels_from", "loss", "reference",
        "algorithm", "local_epochs", "local_batch", "learning_rate", "momentum", "defences",
    }  # fmt: skip


@pytest.mark.parametrize("attack", PRESETS["fast"].attacks, ids=lambda a: a.name)
def test_every_attack_has_a_contract(attack):
    assert attack.name
    assert attack.title
    assert attack.source
    assert "(" in repr(attack)
    zero = view_of(seeded(flat), clip(1)[None], [3], reference=clip(1)[:1])
    nothing = dataclasses.replace(
        zero, update=Update(gradients={n: torch.zeros_like(g) for n, g in zero.update.gradients.items()}, batch=1)
    )
    if attack.obstacle(nothing) is None:
        assert isinstance(attack.invert(nothing, BUDGET, 0), Skipped)


@pytest.mark.parametrize("attack", PRESETS["fast"].attacks, ids=lambda a: a.name)
def test_no_attack_changes_the_view_or_the_model(attack):
    view = view_of(seeded(flat), clip(1)[None], [3], reference=clip(1)[:1])
    before = {n: p.detach().clone() for n, p in view.target.parameters.items()}
    sent = {n: g.clone() for n, g in view.update.gradients.items()}
    if attack.obstacle(view) is None:
        attack.invert(view, dataclasses.replace(BUDGET, steps=60), 0)
    assert all(torch.equal(before[n], p.detach()) for n, p in view.target.parameters.items())
    assert all(torch.equal(sent[n], g) for n, g in view.update.gradients.items())


def test_two_clips_are_reconstructed_together():
    clips = torch.stack([clip(5), clip(6)])
    made = GradientMatching().invert(view_of(seeded(flat), clips, [3, 8]), dataclasses.replace(BUDGET, steps=250), 0)
    assert isinstance(made, Reconstruction)
    # Distinct labels tell the clips apart, so the order is theirs.
    for truth, got in zip(clips, made.clips, strict=True):
        assert psnr(got, truth) > psnr(torch.full_like(truth, 0.5), truth) + 2.0
