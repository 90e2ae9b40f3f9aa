"""The search for layers to keep back, against attacks whose results are a rule: what it tries, confirms, gives up."""

from dataclasses import replace

import pytest
import torch
from bench_nets import SPEC, Transformer, pooled, seeded, target_of
from torch import nn

from auditor.attack import PRESETS
from auditor.federated import select_parameters
from auditor.federated.trainable import patterns_of
from auditor.pipeline import Silent
from auditor.pipeline.context import set_up
from auditor.pipeline.layerwise import withholding
from auditor.pipeline.layerwise.partial_update import EqualEffort, PartRecovered, Subject
from auditor.pipeline.layerwise.single_layers import LayerAttack, LayerAttacks
from auditor.pipeline.layerwise.structural_sets import cuts, ends, granted
from auditor.pipeline.layerwise.withholding import Audited, withhold
from auditor.probe import Galleries, shipped_probes
from auditor.records import Ceiling, FederatedProtocol
from auditor.score import Grade, grade_clip, score_clip


class Block(nn.Module):
    def __init__(self, width, wider):
        super().__init__()
        self.first, self.second = nn.Conv3d(width, wider, 3, 2, 1), nn.Conv3d(wider, wider, 3, 1, 1)
        self.short = nn.Conv3d(width, wider, 1, 2)

    def forward(self, x):
        return torch.relu(self.second(torch.relu(self.first(x))) + self.short(x))


def residual():
    return nn.Sequential(
        nn.Conv3d(3, 4, 3, padding=1), nn.ReLU(), Block(4, 8), Block(8, 16), nn.AdaptiveAvgPool3d(1), nn.Flatten(),
        nn.Linear(16, 10),
    )  # fmt: skip


def context_of(make, batch=1):
    return set_up(target_of(seeded(make)), FederatedProtocol(batch=batch), torch.device("cpu"), 0)


def part(subject, *, shown, lowest=""):
    clip = subject.probe.clip
    score = score_clip(subject.probe, clip if shown else torch.full_like(clip, 0.5), subject.gallery)
    made = PartRecovered(attack="stub", score=score, grade=grade_clip(score), steps=1, lowest=lowest, misfit=0.0)
    assert (made.grade >= Grade.RECOGNISABLE) is shown
    return made


class Rule:
    """Attacks that find a picture where `picture(names sent, strict, clip)` says so; keeps what was asked."""

    def __init__(self, make, picture, *, alone=(), lowest=""):
        self.context = context_of(make)
        probes = shipped_probes(SPEC, 2)
        galleries = Galleries(SPEC, probes)
        self.subject, self.other = (Subject(context=self.context, probe=p, gallery=galleries[p.name]) for p in probes)
        self.picture, self.asked, self.lowest = picture, [], lowest
        self.preset = replace(PRESETS["fast"], steps=100)
        layers = [la for la in self.context.target.layers if la.parameters]
        self.found = LayerAttacks(
            subject=self.subject,
            effort=EqualEffort(preset=self.preset, seconds=1.0, steps=10),
            whole=part(self.subject, shown=True, lowest=lowest),
            layers=tuple(
                LayerAttack(
                    layer=la,
                    alone=part(self.subject, shown=la.name in alone),
                    without=part(self.subject, shown=True),
                )
                for la in layers
            ),
            sizes={},
            of=len(layers),
            left_out="",
        )

    def recover(self, subject, names, effort, display, title):
        strict = effort.steps > self.preset.steps
        self.asked.append((tuple(names), strict, subject.probe.name))
        return part(subject, shown=self.picture(set(names), strict, subject.probe.name), lowest=self.lowest)

    def search(self, monkeypatch, seconds=1e9, *, asked=True, **audited):
        monkeypatch.setattr(withholding, "recover", self.recover)
        tried = Audited(**{"seconds": {"stub": 1.0}, "shown": True, "others": (self.other,), "spent": 1.0, **audited})
        return withhold(self.found, tried, self.preset, seconds, Silent(), Ceiling(), asked=asked)


def names(held):
    return [layer.name for layer in held.confirmed.layers]


def test_ends_and_cuts_of_a_residual_net_keep_readers_of_one_value_together():
    context = context_of(residual)
    groups = [[layer.name for layer in group] for group in cuts(context)]
    assert groups == [["6"], ["3.second"], ["3.first", "3.short"], ["2.second"], ["2.first", "2.short"], ["0"]]
    sizes = [sum(layer.elements for layer in one) for one in ends(context)]
    assert sizes == sorted(sizes)
    assert {tuple(layer.name for layer in one) for one in ends(context)} == {("6",), ("0",), ("0", "6")}


def test_positions_are_an_end_of_a_transformer_with_and_without_its_embedding():
    sets = {tuple(layer.kind for layer in one) for one in ends(context_of(Transformer))}
    assert {("position-embedding",), ("conv3d", "position-embedding")} <= sets


def test_the_head_that_holds_is_the_answer_after_one_trial_and_two_confirmations(monkeypatch):
    rule = Rule(pooled, lambda sent, strict, clip: "5.weight" in sent)
    held = rule.search(monkeypatch)
    assert held.holds
    assert held.smallest
    assert names(held) == ["5"]
    # Trial on one clip, then the full battery on both; a set of one layer has nothing to take out.
    assert [(strict, clip) for _, strict, clip in rule.asked] == [
        (False, rule.subject.probe.name), (True, rule.subject.probe.name), (True, rule.other.probe.name)
    ]  # fmt: skip


def test_attacks_on_the_rest_are_given_the_gradient_of_the_heads_bias(monkeypatch):
    rule = Rule(pooled, lambda sent, strict, clip: "5.weight" in sent)
    rule.search(monkeypatch)
    assert all("5.bias" in sent and "5.weight" not in sent for sent, _, _ in rule.asked)
    context = context_of(pooled, batch=2)
    assert granted(context, context.target.layers) == ()


def test_a_layer_that_gives_a_picture_alone_is_in_every_set_that_is_tried(monkeypatch):
    rule = Rule(
        residual, lambda sent, strict, clip: "3.second.weight" in sent or "0.weight" in sent, alone=("3.second",)
    )
    held = rule.search(monkeypatch)
    assert names(held) == ["0", "3.second"]
    assert not any("3.second.weight" in sent for sent, _, _ in rule.asked)


def test_cuts_of_a_recursion_are_found_by_bisection_and_the_smallest_that_holds_is_taken(monkeypatch):
    # A recursion passes as long as some reader of each value is sent: the cut above and below it does not matter.
    def picture(sent, strict, clip):
        return not ({"3.first.weight", "3.short.weight"}.isdisjoint(sent) or "3.second.weight" not in sent)

    rule = Rule(residual, picture, lowest="0.weight")
    held = rule.search(monkeypatch)
    assert held.holds
    assert names(held) == ["3.first", "3.short"]
    # Leaving out one of the two is no cut, and was tried.
    assert held.smallest
    assert len(held.steps) <= 12


def test_what_a_trial_misses_a_confirmation_finds_and_trials_are_harder_from_then_on(monkeypatch):
    # Short searches miss what the head's absence leaves; with the work of the audit it is found.
    def picture(sent, strict, clip):
        return "0.weight" in sent if strict else "6.weight" in sent and "0.weight" in sent

    rule = Rule(residual, picture)
    held = rule.search(monkeypatch)
    assert held.holds
    assert names(held) == ["0"]
    assert [(step.strict, step.left.grade >= Grade.RECOGNISABLE) for step in held.steps][:2] == [
        (False, False), (True, True)
    ]  # fmt: skip


def test_a_set_that_another_clip_breaks_is_not_the_answer(monkeypatch):
    rule = Rule(residual, lambda sent, strict, clip: "0.weight" in sent if clip == "other" else "6.weight" in sent)
    rule.other = replace(rule.other, probe=replace(rule.other.probe, name="other"))
    held = rule.search(monkeypatch)
    assert held.holds
    assert set(names(held)) == {"0", "6"}


def test_a_set_that_leaves_what_the_eye_would_have_to_judge_is_not_the_answer(monkeypatch):
    rule = Rule(residual, lambda sent, strict, clip: "6.weight" in sent)
    certain = rule.recover

    def recover(subject, names, effort, display, title):
        made = certain(subject, names, effort, display, title)
        nearly = replace(made.score, psnr=20.0, gain=4.0, rank=1, rank_scenes=1, content=0.7)
        # Without the head something is left of the clip, below the line of RECOGNISABLE, while the first layer is sent.
        assert grade_clip(nearly) is Grade.NOT_SHOWN
        return replace(made, score=nearly) if made.grade is Grade.NOT_SHOWN and "0.weight" in names else made

    monkeypatch.setattr(rule, "recover", recover)
    held = rule.search(monkeypatch)
    assert held.holds
    assert set(names(held)) == {"0", "6"}


def test_where_structure_names_no_set_as_many_layers_as_it_takes_are_kept_back(monkeypatch):
    # Any weight but those of norms gives the picture; ends and cuts hold two of them at most.
    rule = Rule(residual, lambda sent, strict, clip: any("second" in n or "first" in n for n in sent))
    held = rule.search(monkeypatch)
    assert held.holds
    assert set(names(held)) == {"2.first", "2.second", "3.first", "3.second"}
    assert held.smallest


def test_where_every_rest_gives_a_picture_the_search_ends_and_says_what_it_tried(monkeypatch):
    rule = Rule(residual, lambda sent, strict, clip: True, lowest="0.weight")
    held = rule.search(monkeypatch)
    assert not held.holds
    assert held.confirmed is None
    assert "whatever was kept back" in held.reason
    largest = max(len(step.layers) for step in held.steps)
    assert largest == len(rule.found.layers) - 1


def test_a_search_that_the_work_does_not_hold_says_how_much_a_set_takes(monkeypatch):
    rule = Rule(residual, lambda sent, strict, clip: "6.weight" in sent)
    # A trial is two searches of 1 s; what confirms it is planned with twice 50 s on two clips.
    held = rule.search(monkeypatch, seconds=10.0, spent=50.0)
    assert not held.holds
    assert held.reason == "the next set takes about 200 s of work, and 10 s were left"
    assert [step.strict for step in held.steps] == [False]


def test_unless_it_is_asked_for_nothing_is_tried_that_cannot_be_confirmed(monkeypatch):
    rule = Rule(residual, lambda sent, strict, clip: "6.weight" in sent)
    held = rule.search(monkeypatch, seconds=201.0, asked=False, spent=50.0)
    assert held.reason == "the next set takes about 202 s of work, and 201 s were left"
    assert rule.asked == []
    assert rule.search(monkeypatch, seconds=1e9, asked=False, spent=50.0).holds


def test_without_a_picture_of_the_whole_update_nothing_is_tried(monkeypatch):
    rule = Rule(residual, lambda sent, strict, clip: False)
    rule.found = replace(rule.found, whole=part(rule.subject, shown=False))
    held = rule.search(monkeypatch, shown=False)
    assert "from the whole update" in held.reason
    assert rule.asked == []


@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        (("6",), ("0.*", "2.*", "3.*")),
        (("3.first", "3.short"), ("0.*", "2.*", "3.second.*", "6.*")),
        ((), ("*",)),
    ],
)
def test_globs_name_what_is_left_and_nothing_else(kept, expected):
    context = context_of(residual)
    layers, parameters = context.target.layers, list(context.target.parameters)
    rest = [n for la in layers if la.name not in kept for n in la.parameters]
    patterns = patterns_of(layers, parameters, rest)
    assert patterns == expected
    assert set(select_parameters(layers, parameters, patterns)) == set(rest)


def test_globs_of_single_parameters_are_taken_literally():
    layers, parameters = (), ["a[0].weight", "a0.weight", "b"]
    patterns = patterns_of(layers, parameters, ["a[0].weight", "b"])
    assert select_parameters(layers, parameters, patterns) == ("a[0].weight", "b")
