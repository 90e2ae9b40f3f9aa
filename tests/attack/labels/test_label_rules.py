"""Each label rule of batches against counts that are known, and what happens where no rule can answer."""

import dataclasses
from collections import Counter

import pytest
import torch
from bench_nets import clip, flat, pooled, seeded, view_of
from torch import nn

from auditor.attack import restore_labels
from auditor.attack.labels.cross_entropy_rules import among, ilrg, llg, rlg, rounded
from auditor.attack.labels.head import Head, blind, find_head
from auditor.records import LabelGuess, Skipped, Update


def plain_relu() -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(3, 16, 3, padding=1, stride=(1, 2, 2)), nn.ReLU(), nn.AdaptiveAvgPool3d(2), nn.Flatten(),
        nn.Linear(128, 10, bias=False),
    )  # fmt: skip


def batch(count: int) -> torch.Tensor:
    return torch.stack([clip(i) for i in range(count)])


def synthetic(labels, classes=10, seed=0, width=40, bias=True):
    """Return a head's gradient made by hand, an independent witness: softmax less one-hot, times features."""
    g = torch.Generator().manual_seed(seed)
    features = torch.rand(len(labels), width, generator=g, dtype=torch.float64)
    slope = torch.softmax(0.1 * torch.randn(len(labels), classes, generator=g, dtype=torch.float64), 1)
    slope = (slope - nn.functional.one_hot(torch.tensor(labels), classes)) / len(labels)
    return Head(
        classes=classes, batch=len(labels), weight_name="w", bias_name="b" if bias else None,
        weight=slope.T @ features, bias=slope.sum(0) if bias else None,
    )  # fmt: skip


@pytest.mark.parametrize("labels", [[1, 4], [0, 0, 0, 0], [2, 2, 5, 9], [3, 3, 3, 7, 7, 8, 8, 8]])
@pytest.mark.parametrize("bias", [True, False])
def test_llg_counts_labels_drawn_by_hand(labels, bias):
    for seed in range(5):
        guess = llg(synthetic(labels, seed=seed, bias=bias), None)
        assert guess is not None
        # Without the bias and the public model the size of a clip's features is not known apart from its count.
        least = len(labels) if bias else len(labels) - 1
        assert (Counter(guess.labels) & Counter(labels)).total() >= least


@pytest.mark.parametrize("labels", [[1, 4], [0, 0, 0, 0], [2, 2, 5, 9], [6, 3, 7, 7, 0]])
def test_rlg_leaves_every_class_that_is_present(labels):
    for seed in range(5):
        possible = rlg(synthetic(labels, seed=seed))
        assert possible is not None
        assert set(labels) <= set(possible)
        assert len(possible) <= len(labels)


def test_rlg_needs_fewer_clips_than_classes():
    assert rlg(synthetic(list(range(5)) * 2, classes=5)) is None


def test_one_possible_class_is_certain():
    head = synthetic([4, 4, 4])
    guess = among(head, (4,), None)
    assert guess is not None
    assert guess.labels == (4, 4, 4)
    assert guess.certain


@pytest.mark.parametrize("labels", [[1, 4], [2, 2], [1, 4, 6, 8], [2, 2, 5, 9], [3, 3, 3, 3]])
@pytest.mark.parametrize("make", [plain_relu, flat, pooled], ids=lambda m: m.__name__)
def test_a_head_without_bias_gives_a_batch_away(make, labels):
    net = seeded(make)
    weights = [n for n, p in net.named_parameters() if p.ndim == 2]
    guess = restore_labels(view_of(net, batch(len(labels)), labels, sent=weights, known=False))
    assert isinstance(guess, LabelGuess)
    assert sorted(guess.labels) == labels
    assert "LLG" in guess.rule or "RLG" in guess.rule


def test_the_bias_alone_gives_a_batch_away():
    guess = restore_labels(view_of(seeded(pooled), batch(4), [0, 0, 5, 9], sent=["5.bias"], known=False))
    assert isinstance(guess, LabelGuess)
    assert guess.rule == "LLG*"
    assert sorted(guess.labels) == [0, 0, 5, 9]


def test_ilrg_is_asked_first_where_weight_and_bias_are_sent():
    view = view_of(seeded(pooled), batch(4), [0, 0, 5, 9], known=False)
    guess = restore_labels(view)
    assert isinstance(guess, LabelGuess)
    assert guess.rule == "iLRG"
    assert guess.certain
    assert guess.labels == ilrg(view, find_head(view)).labels


def test_labels_do_not_come_from_another_update():
    """Null control: read off the update of other labels, the guess is of those."""
    hits = 0
    for first in range(5):
        guess = restore_labels(view_of(seeded(pooled), batch(1), [first + 5], known=False))
        assert isinstance(guess, LabelGuess)
        hits += guess.labels == (first,)
    assert hits == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0])
@pytest.mark.parametrize("count", [1, 4])
def test_gradients_that_say_nothing_are_an_answer_not_a_crash(value, count):
    view = view_of(seeded(flat), batch(count), [3] * count, known=False)
    gradients = {n: torch.full_like(g, value) for n, g in view.update.gradients.items()}
    guess = restore_labels(dataclasses.replace(view, update=Update(gradients=gradients, batch=count)))
    assert isinstance(guess, Skipped)
    assert ("not finite" in guess.reason) == (value != 0.0)


def test_a_frozen_head_is_told():
    guess = restore_labels(view_of(seeded(flat), batch(3), [1, 2, 3], sent=["0.weight", "2.weight"], known=False))
    assert isinstance(guess, Skipped)
    assert "head" in guess.reason


def test_one_class_and_one_frame_and_grey_clips_do_not_crash():
    one = nn.Sequential(nn.Flatten(), nn.Linear(4 * 3 * 16 * 16, 1))
    view = view_of(seeded(lambda: one), batch(2), [0, 0], known=False)
    lone = dataclasses.replace(view, knowledge=dataclasses.replace(view.knowledge, classes=1))
    assert isinstance(restore_labels(lone), Skipped)
    grey = view_of(seeded(flat), torch.full((2, 4, 3, 16, 16), 0.5), [3, 6], known=False)
    guess = restore_labels(grey)
    assert isinstance(guess, LabelGuess)
    assert sorted(guess.labels) == [3, 6]


def test_public_features_know_whether_they_can_be_negative():
    for make, positive in ((plain_relu, True), (flat, False)):
        view = view_of(seeded(make), batch(2), [0, 1], known=False)
        assert blind(view, find_head(view)).positive is positive


def test_rounding_keeps_the_total():
    assert rounded(torch.tensor([0.6, 0.6, 0.6]), 2) == (0, 1)
    assert rounded(torch.tensor([0.1, 3.9, 0.0]), 4) == (1, 1, 1, 1)
    assert rounded(torch.tensor([2.0, 3.0]), 4) == (0, 1, 1, 1)
