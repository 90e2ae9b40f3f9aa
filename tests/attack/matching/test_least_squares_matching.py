"""Gradient matching as least squares: it recovers clips, keeps its budget, and knows nothing of the truth."""

import math
import sys
from dataclasses import replace

import pytest
import torch
from bench_nets import SPEC, flat, pooled, psnr, seeded, view_of
from torch import nn

from auditor.attack.matching.least_squares_matching import _scale
from auditor.attack.registry import LEAST_SQUARES
from auditor.probe import shipped_probes
from auditor.records import Budget, Outcome, Reconstruction, Skipped

CLIPS = [p.clip for p in shipped_probes(SPEC)[:3]]
BUDGET = Budget(seconds=600.0, steps=400)


def view(net=flat, clip=0, **known):
    return view_of(seeded(net), CLIPS[clip][None], [3], **known)


def test_it_keeps_the_nearest_of_what_it_tried():
    seen = view(lambda: flat(nn.ReLU))
    made, alone = LEAST_SQUARES.invert(seen, BUDGET, 0), replace(LEAST_SQUARES, rival=0.0, polish=0.0)
    without = alone.invert(seen, replace(BUDGET, steps=int(0.4 * BUDGET.steps)), 0)
    assert made.steps <= BUDGET.steps
    # Here, where the update determines the clip well, soft-signed descent is ahead of least squares by 2 dB.
    assert psnr(made.clips[0], CLIPS[0]) > psnr(without.clips[0], CLIPS[0]) + 1.0


def test_the_objective_is_the_distance_of_the_update():
    seen = view()
    made = LEAST_SQUARES.invert(seen, BUDGET, 0)
    again = seen.client(made.clips, torch.tensor([3]))
    off = sum(float((again[n] - g).double().square().sum()) for n, g in seen.update.gradients.items())
    norm = sum(float(g.double().square().sum()) for g in seen.update.gradients.values())
    assert made.objective == pytest.approx(math.sqrt(off / norm), rel=1e-3)


def test_an_unrelated_update_gives_an_unrelated_clip():
    made = LEAST_SQUARES.invert(view(clip=1), BUDGET, 0)
    grey = psnr(torch.full_like(CLIPS[0], 0.5), CLIPS[0])
    assert psnr(made.clips[0], CLIPS[1]) > psnr(torch.full_like(CLIPS[1], 0.5), CLIPS[1]) + 6.0
    assert psnr(made.clips[0], CLIPS[0]) < grey + 2.0


def test_a_smooth_net_is_not_polished_and_one_with_kinks_is():
    smooth, nonsmooth = (LEAST_SQUARES.invert(view(net), BUDGET, 0) for net in (flat, pooled))
    assert not any("polish" in note for note in smooth.notes)
    assert [note.split(",")[0] for note in nonsmooth.notes[1:]] == ["descent from grey", "polish"]


def test_clips_of_a_batch_are_told_apart():
    seen = view_of(seeded(flat), torch.stack(CLIPS[:2]), [3, 7])
    made = LEAST_SQUARES.invert(seen, replace(BUDGET, steps=800), 0)
    assert isinstance(made, Reconstruction)
    straight = [psnr(made.clips[i], CLIPS[i]) for i in (0, 1)]
    crossed = [psnr(made.clips[i], CLIPS[1 - i]) for i in (0, 1)]
    assert min(straight) > max(crossed) + 1.0


@pytest.mark.parametrize("budget", [Budget(seconds=600.0, steps=20), Budget(seconds=1e-3, steps=10**6)])
def test_too_small_a_budget_is_told(budget):
    made = LEAST_SQUARES.invert(view(), budget, 0)
    assert isinstance(made, Skipped)
    assert made.because == "out-of-budget"


def test_restarts_keep_the_nearest():
    made = replace(LEAST_SQUARES, restarts=2).invert(view(), BUDGET, 0)
    assert len(made.restart_objectives) == 2
    assert made.objective == min(made.restart_objectives)
    assert made.outcome in (Outcome.CONVERGED, Outcome.OUT_OF_BUDGET)


def test_rows_weigh_half_way_between_their_own_size_and_the_whole():
    gradient = torch.tensor([[3.0, 4.0], [0.03, 0.04]])
    whole = float(gradient.square().mean().sqrt())
    rows = gradient.square().mean(1) + (1e-2 * whole) ** 2
    torch.testing.assert_close(_scale(gradient, True)[:, 0], (rows.sqrt() * whole).sqrt())
    assert float(_scale(gradient, False)) == pytest.approx(whole)


def test_under_noise_levels_end_where_the_noise_begins(monkeypatch):
    net, clip = seeded(lambda: flat(nn.ReLU)), CLIPS[0]
    bare = view_of(net, clip[None], [3])
    size = torch.cat([g.flatten() for g in bare.update.gradients.values()]).square().mean().sqrt()
    client = bare.client.under(replace(bare.client.protocol, defence=(f"gaussian:{0.3 * float(size):.6g}",)))
    update = client.update(clip[None], client.targets([3]))
    seen = replace(bare, client=client, update=update, knowledge=replace(bare.knowledge, defences=client.defences))
    few, alone = Budget(seconds=600.0, steps=100), replace(LEAST_SQUARES, rival=0.0, polish=0.0)
    ends = psnr(alone.invert(seen, few, 0).clips[0], clip)
    monkeypatch.setattr(sys.modules[type(LEAST_SQUARES).__module__], "_OF_NOISE", 0.0)
    # Levels that ask for agreement far below the noise take the steps of those that could still move the clip.
    assert ends > psnr(alone.invert(seen, few, 0).clips[0], clip) + 2.0


@pytest.mark.parametrize(
    ("products", "searches", "beside"),
    [(40, 1, []), (50, 2, []), (70, 2, ["descent from grey"]), (150, 2, ["descent from grey", "polish"])],
)
def test_little_work_is_not_divided_into_parts_with_too_little_each(products, searches, beside):
    """Forty products of work hold 20 in one part, 70 hold 40 steps of one descent, 150 those of two."""
    seen, attack = view(lambda: flat(nn.ReLU)), replace(LEAST_SQUARES, restarts=2)
    alone = replace(attack, rival=0.0, polish=0.0, restarts=1)
    product = alone.invert(seen, replace(BUDGET, steps=60), 0).seconds / 33
    budget = Budget(seconds=products * product, steps=3000)
    found = attack.invert(seen, budget, 0)
    assert len(found.restart_objectives) == searches
    assert [note.split(",")[0] for note in found.notes[1:]] == beside
    assert found.seconds < 1.1 * budget.seconds
    assert psnr(found.clips[0], CLIPS[0]) > psnr(torch.full_like(CLIPS[0], 0.5), CLIPS[0]) + 1.0


def test_less_work_than_a_search_needs_is_told():
    seen = view(lambda: flat(nn.ReLU))
    product = replace(LEAST_SQUARES, rival=0.0, polish=0.0).invert(seen, replace(BUDGET, steps=60), 0).seconds / 33
    found = replace(LEAST_SQUARES, restarts=2).invert(seen, replace(BUDGET, seconds=12 * product), 0)
    assert isinstance(found, Skipped)
    assert found.because == "out-of-budget"
