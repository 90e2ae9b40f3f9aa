"""What a malicious server gets: known cases, certificates that tell mixtures, and no clip behind the thresholds."""

import dataclasses
import inspect
from pathlib import Path

import pytest
import torch
from bench_nets import CLASSES, SPEC, clip, mlp, pooled, psnr, seeded, target_of, view_of
from torch import nn

from auditor.attack.closed_form.linear_input import LinearInversion
from auditor.attack.malicious import (
    FishingInversion,
    Hook,
    ImprintInversion,
    caught,
    fish_class,
    fish_feature,
    measurement,
)
from auditor.federated import LocalClient, observe
from auditor.model import load
from auditor.model.manipulated import imprinted, with_values
from auditor.probe import gallery, moving_texture
from auditor.records import Budget, FederatedProtocol, Knowledge, Outcome, Reconstruction, Skipped, View

BUDGET = Budget(seconds=60.0, steps=60)
ONNX = Path(__file__).parents[2] / "model" / "files" / "slowfast_onnxsim.onnx"
PUBLIC = torch.stack([moving_texture(SPEC, seed).clip for seed in range(6)])


def linear() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(4 * 3 * 16 * 16, CLASSES))


def batch(count, spec=SPEC):
    return torch.stack([clip(seed, spec) for seed in range(count)])


def sent(target, clips, labels, *, known=True):
    """The view of a server that handed out `target`."""
    client = LocalClient(target.model, FederatedProtocol(batch=len(clips), sent=tuple(target.parameters)))
    knowledge = Knowledge(
        clip_shape=target.input.clip_shape,
        batch=len(clips),
        classes=target.classes,
        labels=tuple(labels) if known else None,
    )
    return View(target=target, client=client, update=observe(client, clips, torch.tensor(labels)), knowledge=knowledge)


def planted(target, bins=128):
    made = measurement(target.input.clip_shape, bins, 0)
    return imprinted(target, made.direction, made.thresholds, 0)


def recovered(made, clips):
    """PSNR of the nearest reconstruction of every clip."""
    assert isinstance(made, Reconstruction), made
    return [max(psnr(one, truth) for one in made.clips) for truth in clips]


# -------------------------------------------------------------------------------------------------------- imprint


@pytest.mark.parametrize("count", [1, 2, 3, 8])
@pytest.mark.parametrize("make", [linear, pooled])
def test_every_clip_of_a_batch_is_exact(make, count):
    clips = batch(count)
    made = ImprintInversion().invert(
        sent(planted(target_of(seeded(make))), clips, [k % 3 for k in range(count)]), BUDGET, 0
    )
    assert min(recovered(made, clips)) > 60.0
    assert made.outcome is Outcome.SOLVED
    assert made.certificate["clips_certified"] == count
    assert made.certificate["update_residual"] < 1e-3


def test_labels_need_not_be_known_and_are_found():
    clips, labels = batch(4), [3, 1, 4, 1]
    made = ImprintInversion().invert(sent(planted(target_of(seeded(pooled))), clips, labels, known=False), BUDGET, 0)
    assert isinstance(made, Reconstruction)
    nearest = torch.cdist(made.clips.flatten(1), clips.flatten(1)).argmin(0)
    assert [made.labels[i] for i in nearest] == labels


def test_clips_that_share_a_bin_are_not_certified():
    clips = batch(4)
    clips[1] = 0.999 * clips[0] + 0.001 * clips[2]
    made = ImprintInversion().invert(sent(planted(target_of(seeded(pooled)), 64), clips, [0, 1, 2, 3]), BUDGET, 0)
    exact = [p > 60.0 for p in recovered(made, clips)]
    assert exact[2:] == [True, True]
    assert made.certificate["clips_certified"] == sum(exact) == 2
    assert "2 of 4" in made.notes[0]
    assert torch.equal(made.clips[-1], torch.full_like(clips[0], 0.5))


def test_of_sixty_four_real_clips_most_are_exact():
    """Fowl et al. report 60 of 64; the shipped clips have seven scenes only, and 64 windows of them are alike."""
    spec = dataclasses.replace(SPEC, frames=8)
    clips = gallery(spec).clips[:64]
    net = nn.Sequential(nn.Flatten(), nn.Linear(8 * 3 * 16 * 16, CLASSES))
    target = planted(target_of(seeded(lambda: net), spec), 1024)
    made = ImprintInversion().invert(sent(target, clips, [k % CLASSES for k in range(64)]), BUDGET, 0)
    assert sum(p > 60.0 for p in recovered(made, clips)) >= 52
    assert made.certificate["clips_certified"] >= 48


def test_thresholds_know_shapes_only_and_fit_real_clips():
    assert list(inspect.signature(measurement).parameters) == ["clip_shape", "bins", "seed"]
    made = measurement(SPEC.clip_shape, 64, 3)
    assert bool((made.thresholds.diff() > 0.0).all())
    seen = ((gallery(SPEC).clips - 0.5) * made.direction).flatten(1).sum(1)
    assert 0.3 < float(seen.std()) < 3.0
    assert float(seen.min()) > float(made.thresholds[0])


def test_the_model_behind_works_as_before_and_is_not_touched():
    target = target_of(seeded(pooled))
    before = {n: p.detach().clone() for n, p in target.parameters.items()}
    made = planted(target)
    with torch.no_grad():
        assert torch.allclose(made.model(batch(3)), target.model(batch(3)), atol=1e-3)
    assert list(made.parameters)[3:] == list(before)
    assert all(torch.equal(p.detach(), before[n]) for n, p in target.parameters.items())
    assert [layer.index for layer in made.layers] == list(range(len(made.layers)))


def test_planted_parameters_can_be_replaced_while_it_runs():
    model = planted(target_of(seeded(pooled)), 16).model
    name, clips = model.prefix + ".spread", batch(1)
    plain = model(clips)
    with model.with_parameters({name: 1e4 * model.spread, "0.bias": torch.zeros(12)}):
        assert not torch.allclose(model(clips), plain, atol=1e-2)
    assert torch.equal(model(clips), plain)


def test_clips_of_another_update_are_not_found():
    """Null control."""
    made = ImprintInversion().invert(sent(planted(target_of(seeded(pooled))), batch(4), [0, 1, 2, 3]), BUDGET, 0)
    assert max(recovered(made, [clip(9)])) < 25.0


def test_an_imported_onnx_file_is_imprinted_and_fished_like_any_other():
    target = load(str(ONNX))
    spec = target.input
    clips = torch.stack([moving_texture(spec, seed).clip for seed in range(3)])
    made = ImprintInversion().invert(sent(planted(target), clips, [0, 1, 2]), BUDGET, 0)
    assert min(recovered(made, clips)) > 60.0
    public = torch.stack([moving_texture(spec, seed).clip for seed in range(10, 14)])
    hook = fish_class(sent(target, clips, [0, 1, 2]), 1, public)
    assert isinstance(hook, Hook), hook
    assert below_head(with_values(target, hook.values), clips, [0, 1, 2], 1, hook) > 0.9999


# -------------------------------------------------------------------------------------------------------- fishing


def below_head(target, clips, labels, k, hook):
    """Cosine of the batch's update below the head with that of clip k alone."""
    whole, alone = (sent(target, *x).update.gradients for x in ((clips, labels), (clips[k : k + 1], labels[k : k + 1])))
    names = [n for n in whole if n not in hook.values]
    a, b = (torch.cat([g[n].flatten().double() for n in names]) for g in (whole, alone))
    return float(a @ b / (a.norm() * b.norm()))


def fished(make, clips, labels, label):
    target = target_of(seeded(make))
    hook = fish_class(sent(target, clips, labels), label, PUBLIC)
    assert isinstance(hook, Hook), hook
    return with_values(target, hook.values), hook


def test_the_update_is_one_clips_and_is_cut_out_whole():
    clips, labels = batch(8), [5, 1, 2, 3, 4, 0, 6, 7]
    honest = target_of(seeded(pooled))
    target, hook = fished(pooled, clips, labels, 2)
    assert below_head(target, clips, labels, 2, hook) > 0.99999
    assert below_head(honest, clips, labels, 2, hook) < 0.9
    alone = FishingInversion().isolated(sent(target, clips, labels))
    assert isinstance(alone, View), alone
    own = sent(target, clips[2:3], [2]).update.gradients
    for name, g in alone.update.gradients.items():
        assert float((g - own[name]).norm()) < 1e-4 * float(own[name].norm()) + 1e-9, name
    assert alone.update.batch == 1
    assert alone.knowledge.labels == (2,)


def test_the_fished_clip_is_exact_where_one_clip_would_be():
    clips, labels = batch(8), list(range(8))
    target, _ = fished(mlp, clips, labels, 6)
    view = sent(target, clips, labels)
    assert LinearInversion().obstacle(view) is not None
    made = FishingInversion().invert(view, BUDGET, 0)
    assert isinstance(made, Reconstruction), made
    assert made.outcome is Outcome.SOLVED
    assert psnr(made.clips[0], clips[6]) > 60.0
    assert made.labels[0] == 6
    assert made.clips.shape == clips.shape
    assert max(psnr(one, clips[0]) for one in made.clips) < 25.0


def test_of_equal_labels_a_cut_separates_one():
    clips, labels = batch(6), [3] * 6
    target = target_of(seeded(pooled))
    view = sent(target, clips, labels)
    low, high = -20.0, 20.0
    for _ in range(16):
        cut = 0.5 * (low + high)
        hook = fish_feature(view, 3, PUBLIC, cut, 0)
        assert isinstance(hook, Hook), hook
        made = sent(with_values(target, hook.values), clips, labels)
        if abs(caught(made) - 1.0) < 0.05:
            break
        low, high = (low, cut) if caught(made) > 1.0 else (cut, high)
    assert caught(made) == pytest.approx(1.0, abs=0.05)
    shares = [below_head(made.target, clips, labels, k, hook) for k in range(6)]
    assert max(s for s in shares if s == s) > 0.999


@pytest.mark.parametrize(("labels", "why"), [([1, 2, 3], "0.0 clips"), ([0, 0, 3], "2.0 clips")])
def test_none_or_several_clips_on_the_hook_are_told(labels, why):
    target, _ = fished(pooled, batch(3), [0, 1, 2], 0)
    made = FishingInversion().invert(sent(target, batch(3), labels), BUDGET, 0)
    assert isinstance(made, Skipped)
    assert why in made.reason


def test_honest_models_are_an_obstacle():
    view = view_of(seeded(mlp), batch(2), [0, 1])
    assert "no layer is imprinted" in (ImprintInversion().obstacle(view) or "")
    assert "not manipulated" in (FishingInversion().obstacle(view) or "")


def test_a_head_without_bias_or_of_one_class_is_no_hook():
    def unbiased():
        return nn.Sequential(nn.Flatten(), nn.Linear(3072, 8), nn.ReLU(), nn.Linear(8, CLASSES, bias=False))

    found = fish_class(sent(target_of(seeded(unbiased)), batch(2), [0, 1]), 0, PUBLIC)
    assert isinstance(found, str)
    assert "weight and bias" in found


def test_unsent_planted_layers_and_grey_clips_are_values():
    target = planted(target_of(seeded(pooled)))
    view = sent(target, torch.full((3, *SPEC.clip_shape), 0.5), [0, 1, 2])
    assert isinstance(ImprintInversion().invert(view, BUDGET, 0), Reconstruction | Skipped)
    without = {n: g for n, g in view.update.gradients.items() if not n.startswith("imprint")}
    view = dataclasses.replace(view, update=dataclasses.replace(view.update, gradients=without))
    assert "not sent" in (ImprintInversion().obstacle(view) or "")
