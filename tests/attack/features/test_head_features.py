"""Features of a head's input, from the update of the head alone, against those of the extractor."""

import dataclasses
from itertools import permutations

import pytest
import torch
from attack_cases import SPEC
from bench_nets import clip, seeded
from extractor_nets import conv, head_of, mlp, two_part, view_of_parts
from torch import nn

from auditor.attack.closed_form.mean_input import recover_mean_input
from auditor.attack.features.feature_inversion import FeatureInversion
from auditor.attack.features.head_features import EXPLAINS, recover_head_features, shared_features
from auditor.records import Budget, Reconstruction
from auditor.solvers.levenberg_marquardt import minimise

FRAMES = dataclasses.replace(SPEC, frames=3, height=16, width=16, layout="NCHW")
WIDTH = 64


def behind(head, spec=FRAMES, join="sequence", seed=1):
    """The view of an update of this head, and the features that only the test knows."""
    target = two_part(seeded(lambda: conv(WIDTH)), head, spec, join)
    truth = clip(seed, spec)
    with torch.no_grad():
        features = target.model.features(truth[None])
    return view_of_parts(target, truth[None], [3]), features.double(), truth


def off(found, true):
    return float((found - true).norm() / true.norm())


@pytest.mark.parametrize("hidden", [(), (32,), (64, 32)], ids=["linear", "mlp of 2", "mlp of 3"])
@pytest.mark.parametrize("trained", [False, True], ids=["fresh", "trained"])
@pytest.mark.parametrize("join", ["flatten", "mean"])
def test_the_input_of_a_linear_or_mlp_head_is_exact(hidden, trained, join):
    head = seeded(lambda: mlp(WIDTH * (FRAMES.frames if join == "flatten" else 1), *hidden))
    if trained:
        target = two_part(seeded(lambda: conv(WIDTH)), head, FRAMES, join)
        clips, labels = torch.stack([clip(k, FRAMES) for k in range(10, 14)]), torch.arange(4)
        optimiser = torch.optim.SGD(head.parameters(), 0.1)
        for _ in range(20):
            optimiser.zero_grad()
            nn.functional.cross_entropy(target.model(clips), labels).backward()
            optimiser.step()
    view, features, _ = behind(head, join=join)
    true = features.flatten() if join == "flatten" else features.mean(0)
    layer = next(x for x in view.target.layers if x.kind == "linear")
    found = recover_mean_input(view, layer)
    assert found is not None
    assert off(found.value, true) < 1e-5


@pytest.mark.parametrize("kind", ["gru", "lstm", "rnn", "attention"])
def test_the_features_of_every_frame_are_exact_and_in_order(kind):
    view, features, _ = behind(head_of(kind, WIDTH))
    span = shared_features(view)
    assert not isinstance(span, str), span
    found = recover_head_features(view, span, [3], 60.0)
    assert found.residual < EXPLAINS
    assert found.ordered
    assert off(found.value, features) < 1e-4


@pytest.mark.parametrize("kind", ["gru", "rnn"])
def test_frames_that_repeat_are_found_as_often_as_they_are_there(kind):
    """Video whose rate was raised: the span has fewer dimensions than there are frames, and still holds them all."""
    spec = dataclasses.replace(FRAMES, frames=4)
    target = two_part(seeded(lambda: conv(WIDTH)), head_of(kind, WIDTH), spec, "sequence")
    truth = clip(1, spec)[[0, 1, 1, 3]]
    with torch.no_grad():
        features = target.model.features(truth[None]).double()
    view = view_of_parts(target, truth[None], [3])
    span = shared_features(view)
    assert not isinstance(span, str), span
    assert (span.rank, span.rows) == (3, 4)
    found = recover_head_features(view, span, [3], 60.0)
    assert found.residual < EXPLAINS
    assert off(found.value, features) < 1e-4


def test_a_head_that_forgets_the_order_gives_the_features_without_it():
    view, features, _ = behind(head_of("tanh per frame", WIDTH))
    found = recover_head_features(view, shared_features(view), [3], 60.0)
    assert found.residual < EXPLAINS
    assert not found.ordered
    assert min(off(found.value, features[list(order)]) for order in permutations(range(3))) < 1e-4


def test_an_average_of_linear_answers_leaves_the_mean_only():
    view, features, _ = behind(head_of("linear per frame", WIDTH))
    assert "1 of the 3" in shared_features(view)
    found = recover_mean_input(view, next(x for x in view.target.layers if x.kind == "linear"))
    assert off(found.value, features.mean(0)) < 1e-5


def test_the_update_of_other_frames_is_not_explained_by_these():
    """Null control: the residual is a certificate only if wrong features do not have it."""
    view, _, _ = behind(head_of("gru", WIDTH))
    other, _, _ = behind(head_of("gru", WIDTH), seed=2)
    mixed = {n: g if "hh" in n else view.update.gradients[n] for n, g in other.update.gradients.items()}
    forged = dataclasses.replace(view, update=dataclasses.replace(view.update, gradients=mixed))
    assert recover_head_features(forged, shared_features(forged), [3], 3.0).residual > 100 * EXPLAINS


def test_feature_inversion_goes_towards_the_features_of_every_frame():
    view, features, _ = behind(head_of("gru", WIDTH))
    made = FeatureInversion().invert(view, Budget(seconds=60.0, steps=60), 0)
    assert isinstance(made, Reconstruction)
    assert made.certificate["head_residual"] < EXPLAINS
    assert any("each of 3 frames, in order" in note for note in made.notes)
    with torch.no_grad():
        seen = view.target.model.features(made.clips).double()
    assert made.objective == pytest.approx(off(seen, features) ** 2, rel=1e-2)
    assert made.objective < 0.5 * made.trace[0].objective


def test_least_squares_of_few_unknowns_meets_a_known_minimum():
    """The Rosenbrock function as a sum of squares has its only minimum, zero, at (1, 1)."""
    found, left = minimise(
        lambda z: torch.stack([10.0 * (z[1] - z[0] ** 2), 1.0 - z[0]]),
        torch.tensor([-1.2, 1.0]), 100, 1e-12, lambda: True,
    )  # fmt: skip
    assert left < 1e-9
    assert torch.allclose(found, torch.ones(2, dtype=torch.float64), atol=1e-8)
