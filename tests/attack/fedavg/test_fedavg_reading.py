"""What closed forms, label rules and flags make of FedAvg updates: exact where the maths says so, and never more."""

import dataclasses
from dataclasses import replace

import pytest
import torch
from bench_nets import CLASSES, SPEC, Transformer, clip, flat, mlp, psnr, seeded, target_of
from torch import nn

from auditor.attack.certificate import residual
from auditor.attack.closed_form.linear_input import LinearInversion, input_moves, recover_linear_input
from auditor.attack.closed_form.patch_embedding import PatchEmbeddingInversion
from auditor.attack.features.feature_inversion import FeatureInversion
from auditor.attack.fedavg.training import EPOCHS, estimated_scale, without_training
from auditor.attack.labels.head import find_head
from auditor.attack.labels.restoration import restore_labels
from auditor.exposure import closed_form_flags
from auditor.federated import LocalClient, make_loss, observe
from auditor.records import Budget, FederatedProtocol, Knowledge, LabelGuess, Outcome, OutputSpec, Reconstruction, View

BUDGET = Budget(seconds=60.0, steps=1)


def fedavg(net, clips, labels, *, sent=None, loss="cross-entropy", known=True, **local) -> View:
    target = target_of(net)
    names = tuple(target.parameters) if sent is None else tuple(sent)
    local = {"local_epochs": 5, "learning_rate": 0.05, **local}
    protocol = FederatedProtocol(algorithm="FedAvg", batch=len(clips), sent=names, loss=loss, **local)
    client = LocalClient(target.model, protocol, make_loss(loss, OutputSpec(), CLASSES), CLASSES)
    update = observe(client.with_seed(3), clips, client.targets(labels))
    knowledge = Knowledge(
        clip_shape=SPEC.clip_shape,
        batch=len(clips),
        classes=CLASSES,
        labels=tuple(labels),
        loss=loss,
        local_epochs=protocol.local_epochs,
        local_batch=protocol.local_batch,
        learning_rate=protocol.learning_rate,
        momentum=protocol.momentum,
    )
    view = View(target=target, client=client, update=update, knowledge=knowledge)
    return view if known else without_training(view)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_first_linear_on_pixels_is_still_exact_and_its_certificate_repeats_the_steps(momentum, known):
    view = fedavg(seeded(mlp), clip(4)[None], [3], momentum=momentum, learning_rate=0.01, known=known)
    made = LinearInversion().invert(view, BUDGET, 0)
    assert isinstance(made, Reconstruction)
    assert psnr(made.clips[0], clip(4)) > 60.0
    if known:
        assert made.outcome is Outcome.SOLVED
        assert made.certificate["update_residual"] < 1e-3
    # Guessed steps give another path, so the certificate cannot be as good: the direction alone is compared.
    assert made.certificate["update_residual"] < 0.5


def test_a_deeper_linear_whose_input_moves_is_not_called_exact():
    view = fedavg(seeded(mlp), clip(4)[None], [3], learning_rate=0.3)
    first, second = (layer for layer in view.target.layers if layer.kind == "linear")
    assert not input_moves(view, first)
    assert input_moves(view, second)
    small = fedavg(seeded(flat), clip(4)[None], [3], learning_rate=1e-4)
    head = small.target.layers[-1]
    assert recover_linear_input(small, head) is not None
    made = FeatureInversion().invert(small, replace(BUDGET, steps=60), 0)
    assert isinstance(made, Reconstruction)
    assert any("averaged over local steps" in note for note in made.notes)
    head_only = fedavg(seeded(flat), clip(4)[None], [3], learning_rate=0.3, sent=("5.weight", "5.bias"))
    assert not input_moves(head_only, head_only.target.layers[-1])
    features = head_only.target.model.inputs_of("5.weight", clip(4)[None])[0].detach().double()
    found = recover_linear_input(head_only, head_only.target.layers[-1])
    assert float((found.value - features.reshape(-1)).norm() / features.norm()) < 1e-4


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_patch_embedding_is_still_solved(momentum):
    view = fedavg(seeded(Transformer), clip(4)[None], [3], local_epochs=20, learning_rate=0.05, momentum=momentum)
    made = PatchEmbeddingInversion().invert(view, BUDGET, 0)
    assert isinstance(made, Reconstruction)
    assert made.outcome is Outcome.SOLVED
    assert psnr(made.clips[0], clip(4)) > 40.0


def test_the_certificate_is_small_at_the_truth_and_large_elsewhere():
    view = fedavg(seeded(flat), clip(4)[None], [3], learning_rate=0.2)
    assert residual(view, clip(4)[None], (3,)) == 0.0
    assert residual(view, clip(5)[None], (3,)) > 0.1
    one_step = replace(view, client=view.client.under(replace(view.client.protocol, algorithm="FedSGD")))
    assert residual(one_step, clip(4)[None], (3,)) > 0.5


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_label_of_one_clip_is_certain_with_a_bias_and_read_without_one(momentum, known):
    for label in range(0, CLASSES, 3):
        view = fedavg(seeded(flat), clip(label)[None], [label], momentum=momentum, known=known)
        guess = restore_labels(view)
        assert isinstance(guess, LabelGuess)
        assert (guess.labels, guess.certain) == ((label,), True)
        rows = [n for n in view.update.gradients if n != "5.bias"]
        bare = fedavg(seeded(flat), clip(label)[None], [label], momentum=momentum, known=known, sent=rows)
        guess = restore_labels(bare)
        assert isinstance(guess, LabelGuess)
        assert guess.labels == (label,)
        assert not guess.certain


@pytest.mark.parametrize("size", [0, 1, 2])
@pytest.mark.parametrize("rate", [0.01, 1.0])
def test_the_chooser_is_never_certain_and_wrong(rate, size):
    right = certain = 0
    for seed in range(8):
        g = torch.Generator().manual_seed(seed)
        labels = [int(x) for x in torch.randint(CLASSES, (4,), generator=g)]
        clips = torch.stack([clip(10 * seed + k) for k in range(4)])
        for sent in (None, ("5.weight",)):
            view = fedavg(seeded(flat), clips, labels, learning_rate=rate, local_batch=size, local_epochs=3, sent=sent)
            guess = restore_labels(view)
            assert isinstance(guess, LabelGuess)
            right += len(set(labels) & set(guess.labels)) / len(set(labels))
            certain += guess.certain
            if guess.certain:
                assert sorted(guess.labels) == sorted(labels)
    assert right / 16 > 0.7 if rate < 0.1 else right / 16 > 0.4
    assert certain >= (rate < 0.1)


def test_one_local_step_is_read_as_one_gradient_of_its_size():
    clips, labels = torch.stack([clip(k) for k in range(3)]), [2, 2, 7]
    view = fedavg(seeded(flat), clips, labels, local_epochs=1, learning_rate=0.1)
    single = replace(
        view,
        update=observe(
            view.client.under(replace(view.client.protocol, algorithm="FedSGD")), clips, torch.tensor(labels)
        ),
    )
    assert view.one_gradient
    assert view.scale == pytest.approx(0.1)
    for mine, theirs in (
        (find_head(view).bias, find_head(single).bias),
        (find_head(view).weight, find_head(single).weight),
    ):
        assert torch.allclose(mine, theirs, rtol=1e-2, atol=1e-5)
    guess = restore_labels(view)
    assert isinstance(guess, LabelGuess)
    assert (guess.labels, guess.certain, guess.rule) == ((2, 2, 7), True, "iLRG")


def test_labels_under_other_losses():
    several = fedavg(seeded(flat), clip(4)[None], [(2, 5)], loss="bce", learning_rate=0.5)
    guess = restore_labels(several)
    assert isinstance(guess, LabelGuess)
    assert (guess.labels, guess.certain) == (((2, 5),), True)
    for known in (True, False):
        squared = restore_labels(fedavg(seeded(flat), clip(4)[None], [2], loss="mse", learning_rate=1e-4, known=known))
        assert not (isinstance(squared, LabelGuess) and squared.certain)


def test_an_unknown_scale_is_estimated_from_the_bias():
    for rate, epochs, momentum in ((0.01, 5, 0.0), (0.05, 2, 0.9)):
        view = fedavg(seeded(flat), clip(4)[None], [3], learning_rate=rate, local_epochs=epochs, momentum=momentum)
        blind = without_training(view)
        assert view.scale == pytest.approx(view.client.protocol.scale)
        assert blind.scale is None
        assert not blind.one_gradient
        assert estimated_scale(blind) == pytest.approx(view.scale, rel=0.3)
        assert blind.client.protocol.learning_rate * EPOCHS == pytest.approx(estimated_scale(blind))
    nothing = {n: torch.zeros_like(g) for n, g in view.update.gradients.items()}
    assert estimated_scale(replace(blind, update=replace(view.update, gradients=nothing))) is None


def test_an_unknowing_attacker_gets_nothing_of_the_true_training():
    told = [
        without_training(
            fedavg(seeded(flat), clip(4)[None], [3], learning_rate=rate, local_epochs=epochs, local_batch=size)
        )
        for rate, epochs, size in ((0.1, 2, 0), (0.05, 4, 1))
    ]
    fixed = [dataclasses.asdict(replace(v.client.protocol, learning_rate=0.0)) for v in told]
    assert fixed[0] == fixed[1]


def test_flags_promise_less_after_several_steps():
    target = target_of(seeded(flat))
    names = tuple(target.parameters)

    def said(**change) -> str:
        protocol = FederatedProtocol(algorithm="FedAvg", sent=names, **change)
        return " ".join(
            t
            for texts in closed_form_flags(target.layers, protocol, CLASSES, target.parameters).values()
            for t in texts
        )

    assert "computed exactly" in said(local_epochs=1)
    assert "computed exactly" not in said(local_epochs=5)
    assert "averaged over 5 local steps" in said(local_epochs=5)
    assert "iDLG" in said(local_epochs=5)
    head = FederatedProtocol(algorithm="FedAvg", sent=("5.weight", "5.bias"), local_epochs=5)
    assert "computed exactly" in " ".join(
        closed_form_flags(target.layers, head, CLASSES, target.parameters)[target.layers[-1].index]
    )
    assert "solved for" not in said(local_epochs=5, loss="mse")


def test_a_net_of_one_linear_is_exact_for_any_rate():
    net = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(4 * 3 * 16 * 16, CLASSES)))
    made = LinearInversion().invert(fedavg(net, clip(4)[None], [3], learning_rate=0.5, local_epochs=10), BUDGET, 0)
    assert isinstance(made, Reconstruction)
    assert psnr(made.clips[0], clip(4)) > 60.0
