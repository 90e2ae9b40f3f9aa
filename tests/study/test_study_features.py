"""Features that an update gives away, held against the extractor's own, and whether they point to the clip."""

import dataclasses

import pytest
import torch
from attack_cases import SPEC
from bench_nets import clip, seeded
from extractor_nets import conv, head_of, mlp, two_part, view_of_parts

from auditor.results.encode import document
from auditor.study.features import clip_features, error, features_block, rank_by_features, recovered

FRAMES = dataclasses.replace(SPEC, frames=3, height=16, width=16, layout="NCHW")
WIDTH = 64
CASES = {
    "linear": (lambda: mlp(WIDTH * 3), "flatten", "frames"),
    "mlp": (lambda: mlp(WIDTH * 3, 16), "flatten", "frames"),
    "mean": (lambda: mlp(WIDTH), "mean", "mean"),
    "gru": (lambda: head_of("gru", WIDTH), "sequence", "frames"),
    "per frame, mean": (lambda: head_of("linear per frame", WIDTH), "sequence", "mean"),
    "tanh per frame": (lambda: head_of("tanh per frame", WIDTH), "sequence", "span"),
}


def views(name):
    make, join, _ = CASES[name]
    target = two_part(seeded(lambda: conv(WIDTH)), make(), FRAMES, join)
    return [(view_of_parts(target, clip(k, FRAMES)[None], [3]), clip(k, FRAMES)) for k in (1, 2)]


@pytest.mark.parametrize("name", CASES)
def test_features_are_those_of_the_extractor_and_point_to_the_clip(name):
    (view, truth), (other, _) = views(name)
    found, null = recovered(view, 60.0), recovered(other, 60.0)
    assert found is not None
    assert null is not None
    assert found.kind == CASES[name][2]
    true = clip_features(view, truth[None])[0]
    with torch.no_grad():
        assert torch.allclose(true, view.target.model.features(truth[None]).double())
    assert error(found, true) < 1e-4
    gallery = clip_features(view, torch.stack([clip(k, FRAMES) for k in range(2, 12)]))
    assert rank_by_features(found, true, gallery) == 1
    # The null's own clip is in the gallery, and nearer.
    assert rank_by_features(null, true, gallery) > 1


def test_an_equal_candidate_counts_against_the_attacker():
    ((view, truth), _) = views("linear")
    found = recovered(view, 60.0)
    true = clip_features(view, truth[None])[0]
    assert rank_by_features(found, true, torch.stack([true, true + 1.0])) == 2


def test_nothing_recovered_is_told_as_such():
    block = document(features_block(None, torch.zeros(3, 4), torch.zeros(5, 3, 4), own=True))
    assert block == {"recovered": "nothing", "said": "", "error": None, "rank": None, "gallery": 6}
