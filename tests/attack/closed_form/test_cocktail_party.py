"""The cocktail party attack unmixes batches, says how well, and refuses what it cannot unmix."""

import dataclasses

import pytest
import torch
from bench_nets import SPEC, clip, flat, psnr, seeded, view_of
from torch import nn

from auditor.attack.closed_form.cocktail_party import CocktailParty, fast_ica
from auditor.probe.real import shipped_probes
from auditor.records import Budget, FederatedProtocol, Outcome, Reconstruction, Skipped, Update, View

BUDGET = Budget(seconds=40.0, steps=100)
PIXELS = 4 * 3 * 16 * 16
ATTACK = CocktailParty()


def head(activation=nn.GELU, units=100) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, units), activation(), nn.Linear(units, 10))


def real(count: int) -> torch.Tensor:
    return torch.stack([p.clip for p in shipped_probes(SPEC)[:count]])


def best(made: Reconstruction, truth: torch.Tensor) -> list[float]:
    return [max(psnr(one, t) for one in made.clips) for t in truth]


def with_gradients(view: View, change) -> View:
    gradients = {n: change(g.clone()) for n, g in view.update.gradients.items()}
    return dataclasses.replace(view, update=Update(gradients=gradients, batch=view.update.batch))


def test_sparse_sources_are_unmixed():
    """Random textures: an independent witness, whose mixing is known."""
    g = torch.Generator().manual_seed(3)
    sources = torch.rand(5, 4000, generator=g, dtype=torch.float64).mul(1.998).sub(0.999).atanh() ** 3
    mixing = torch.randn(5, 5, generator=g, dtype=torch.float64)
    for _, unmixing, moved in fast_ica(mixing @ sources, torch.Generator().manual_seed(0), 100):  # noqa: B007
        if moved < 1e-9:
            break
    assert moved < 1e-9
    # Each row finds one source, up to length and sign.
    found = (unmixing @ mixing).abs()
    assert sorted(found.argmax(dim=1).tolist()) == list(range(5))
    share = found.amax(dim=1) / found.norm(dim=1)
    assert float(share.min()) > 0.99


@pytest.mark.parametrize("known", [True, False])
def test_real_clips_behind_any_activation_are_exact_where_the_fixed_point_is_reached(known):
    truth, labels = real(6), [3, 1, 4, 1, 5, 9]
    view = view_of(seeded(head), truth, labels, known=known)
    assert ATTACK.obstacle(view) is None
    made = ATTACK.invert(view, BUDGET, 0)
    assert isinstance(made, Reconstruction)
    assert made.outcome is Outcome.SOLVED
    assert made.objective == made.certificate["update_residual"] < 1e-2
    assert min(best(made, truth)) > 40.0
    nearest = torch.cdist(made.clips.flatten(1), truth.flatten(1)).argmin(0)
    assert [made.labels[i] for i in nearest] == labels


def test_without_the_fixed_point_components_are_rough_and_not_called_solved():
    truth = real(6)
    view = view_of(seeded(head), truth, [3, 1, 4, 1, 5, 9])
    made = ATTACK.invert(view, Budget(seconds=40.0, steps=1), 0)
    assert isinstance(made, Reconstruction)
    assert made.outcome is Outcome.OUT_OF_BUDGET
    assert made.objective > 1e-2


def test_one_local_step_is_a_gradient_of_another_size():
    truth, labels = real(3), [3, 1, 4]
    view = view_of(seeded(head), truth, labels)
    step = view_of(seeded(head), truth, labels)
    gradients = {n: 0.5 * g for n, g in view.update.gradients.items()}
    protocol = FederatedProtocol(algorithm="FedAvg", learning_rate=0.5, batch=3, sent=tuple(gradients))
    knows = dataclasses.replace(view.knowledge, learning_rate=0.5, local_epochs=1, local_batch=0, momentum=0.0)
    step = dataclasses.replace(
        view,
        client=view.client.under(protocol),
        update=Update(gradients=gradients, batch=3, algorithm="FedAvg"),
        knowledge=knows,
    )
    assert ATTACK.obstacle(step) is None
    made = ATTACK.invert(step, BUDGET, 0)
    assert isinstance(made, Reconstruction)
    assert made.outcome is Outcome.SOLVED
    assert min(best(made, truth)) > 40.0
    more = dataclasses.replace(step, knowledge=dataclasses.replace(knows, local_epochs=3))
    assert "several local steps" in (ATTACK.obstacle(more) or "")
    unsure = dataclasses.replace(step, knowledge=dataclasses.replace(knows, learning_rate=None))
    assert "size of the local step" in (ATTACK.obstacle(unsure) or "")


def test_clips_of_another_update_are_not_found():
    """Null control."""
    truth = real(6)
    made = ATTACK.invert(view_of(seeded(head), truth[:3], [1, 2, 3]), BUDGET, 0)
    assert isinstance(made, Reconstruction)
    grey = [psnr(torch.full_like(t, 0.5), t) for t in truth[3:]]
    assert sum(best(made, truth[3:])) / 3 < sum(grey) / 3 + 1.0


@pytest.mark.parametrize(
    ("make", "count", "sent", "why"),
    [
        (head, 1, None, "one clip"),
        (head, 65, None, "65 clips"),
        (lambda: head(units=3), 4, None, "as many units"),
        (lambda: nn.Sequential(nn.Conv3d(3, 10, 4), nn.AdaptiveAvgPool3d(1), nn.Flatten()), 2, None, "no Linear"),
        (head, 2, ["1.weight"], "weight and bias"),
    ],
)
def test_what_it_cannot_do_is_told(make, count, sent, why):
    truth = torch.stack([clip(i) for i in range(count)])
    assert why in (ATTACK.obstacle(view_of(seeded(make), truth, [1] * count, sent=sent)) or "")


def test_an_update_that_is_not_finite_is_told():
    view = with_gradients(view_of(seeded(head), real(2), [1, 2]), lambda g: g * float("nan"))
    assert "not finite" in (ATTACK.obstacle(view) or "")


@pytest.mark.parametrize(
    ("clips", "why"), [(torch.full((2, 4, 3, 16, 16), 0.5), "rank below 2"), (None, "features, not pixels")]
)
def test_clips_that_do_not_differ_and_features_are_skipped(clips, why):
    view = view_of(seeded(head), clips, [1, 1]) if clips is not None else view_of(seeded(flat), real(2), [1, 2])
    made = ATTACK.invert(view, BUDGET, 0)
    assert isinstance(made, Skipped)
    assert why in made.reason


def test_clips_that_differ_in_brightness_alone_are_skipped():
    base = 0.5 * clip(0)
    made = ATTACK.invert(view_of(seeded(head), torch.stack([base, base + 0.3]), [1, 2]), BUDGET, 0)
    assert isinstance(made, Skipped)
    assert "fewer than 2 directions" in made.reason
