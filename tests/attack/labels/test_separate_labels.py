"""Labels under binary cross-entropy and the squared error: exact for one clip, and not applicable where no rule is."""

import dataclasses
import itertools

import pytest
import torch
from bench_nets import SPEC, clip, seeded, target_of
from torch import nn

from auditor.attack import GradientMatching, LinearInversion, restore_labels
from auditor.federated import LocalClient, make_loss, observe
from auditor.pipeline.label_hits import label_interval
from auditor.records import (
    Budget,
    FederatedProtocol,
    Knowledge,
    LabelGuess,
    Outcome,
    OutputSpec,
    Reconstruction,
    Skipped,
    View,
)


def net(classes: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(3, 12, 3, padding=1, stride=2), nn.GELU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(),
        nn.Linear(12, classes),
    )  # fmt: skip


def view(module, classes, loss, labels, *, sent=None, function=None):
    output = OutputSpec()
    target = dataclasses.replace(target_of(module), classes=classes, output=output)
    names = tuple(target.parameters) if sent is None else sent
    made = make_loss(loss, output, classes, function)
    client = LocalClient(target.model, FederatedProtocol(batch=len(labels), sent=names, loss=loss), made, classes)
    clips = torch.stack([clip(i) for i in range(len(labels))])
    knowledge = Knowledge(clip_shape=SPEC.clip_shape, batch=len(labels), classes=classes, loss=loss)
    return View(
        target=target, client=client, update=observe(client, clips, client.targets(labels)), knowledge=knowledge
    )


@pytest.mark.parametrize("present", [(2,), (0, 4), (1, 2, 6), tuple(range(7))])
@pytest.mark.parametrize("sent", [None, ("4.bias",), ("4.weight",)], ids=["all", "bias", "weight"])
def test_every_class_that_is_present_can_be_read_off_under_bce(present, sent):
    for seed in range(3):
        guess = restore_labels(view(seeded(lambda: net(7), seed), 7, "bce", (present,), sent=sent))
        assert isinstance(guess, LabelGuess)
        assert guess.labels == (present,)
        assert guess.certain or sent == ("4.weight",)


@pytest.mark.parametrize("answer", [0, 1])
def test_a_single_logit_tells_yes_from_no(answer):
    guess = restore_labels(view(seeded(lambda: net(1)), 1, "bce", (answer,)))
    assert isinstance(guess, LabelGuess)
    assert guess.labels == (answer,)
    assert guess.certain


def test_a_value_is_read_off_exactly_under_mse():
    for value in (0.0, 0.137, 0.9):
        guess = restore_labels(view(seeded(lambda: net(1)), 1, "mse", (value,)))
        assert isinstance(guess, LabelGuess)
        assert guess.labels[0] == pytest.approx(value, abs=1e-3)


@pytest.mark.parametrize("label", [0, 3, 6])
def test_one_hot_is_read_off_under_mse(label):
    guess = restore_labels(view(seeded(lambda: net(7)), 7, "mse", (label,)))
    assert isinstance(guess, LabelGuess)
    assert guess.labels == (label,)
    assert guess.certain


@pytest.mark.parametrize(
    ("loss", "labels", "sent", "why"),
    [
        ("bce", ((1,), (2, 3)), None, "2 clips share the update"),
        ("mse", (1, 2), None, "2 clips share the update"),
        ("bce", ((1,),), ("0.weight",), "neither weight nor bias"),
        ("mse", (1,), ("4.weight",), "weight and bias"),
    ],
)
def test_where_no_rule_applies_the_reason_is_told(loss, labels, sent, why):
    guess = restore_labels(view(seeded(lambda: net(7)), 7, loss, labels, sent=sent))
    assert isinstance(guess, Skipped)
    assert guess.because == "not-applicable"
    assert why in guess.reason


def test_a_loss_of_the_users_own_has_no_rule():
    guess = restore_labels(view(seeded(lambda: net(7)), 7, "m.py:f", (1,), function=nn.functional.cross_entropy))
    assert isinstance(guess, Skipped)
    assert "own" in guess.reason


def test_attacks_simulate_the_client_with_its_own_loss():
    flat = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(4 * 3 * 16 * 16, 5)))
    seen = view(flat, 5, "bce", ((1, 3),))
    seen = dataclasses.replace(seen, knowledge=dataclasses.replace(seen.knowledge, labels=((1, 3),)))
    solved = LinearInversion().invert(seen, Budget(seconds=10, steps=1), 0)
    assert isinstance(solved, Reconstruction)
    assert solved.outcome is Outcome.SOLVED
    searched = GradientMatching().invert(seen, Budget(seconds=100, steps=60), 0)
    assert isinstance(searched, Reconstruction)
    assert searched.trace[-1].objective < 0.1 * searched.trace[0].objective


def test_chance_is_what_a_guesser_of_as_many_labels_would_reach():
    two = label_interval([((0, 1),), ((2, 3),)], [((0, 1),), ((2, 9),)], 10, "classes")
    assert (two.hits, two.trials, two.chance) == (3, 4, 0.2)
    everything = label_interval([((0, 1),)], [(tuple(range(10)),)], 10, "classes")
    assert everything.chance == 1.0
    assert label_interval([(1,), (0,)], [(1,), (1,)], 1, "binary").chance == 0.5
    values = label_interval([(0.1,), (0.5,)], [(0.11,), (0.7,)], 1, "value")
    assert (values.hits, values.trials, values.chance) == (1, 2, 0.1)
    classes = label_interval([(1, 2)], [(2, 5)], 10, "class")
    assert (classes.hits, classes.trials, classes.chance) == (1, 2, 0.2)


@pytest.mark.parametrize(
    ("classes", "truth"), [(2, (0, 1)), (3, (1, 2)), (3, (0, 1, 2, 0, 1)), (10, (2, 3, 4)), (4, (1, 1, 1))]
)
def test_chance_of_a_batch_is_what_the_best_blind_guess_finds(classes, truth):
    """Against every way in which the protocol may label a batch, counted one by one."""
    distinct = len(set(truth)) > 1
    ways = [[(first + k * distinct) % classes for k in range(len(truth))] for first in range(classes)]
    guesses = itertools.combinations_with_replacement(range(classes), len(truth))
    best = max(
        sum(sum(min(way.count(c), guess.count(c)) for c in range(classes)) for way in ways) / len(ways)
        for guess in guesses
    )
    assert label_interval([truth], [truth], classes, "class").chance == pytest.approx(best / len(truth))
