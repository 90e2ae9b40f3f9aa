"""Recursion where several images share one gradient: frames of a 2-D net behind an average, and clips of a batch."""

from itertools import permutations

import pytest
import torch
from bench_nets import CLASSES, SPEC, clip, seeded, view_of
from residual_nets import FrameNet
from test_residual_recursion import normal, values_at

from auditor.attack.recursion.binary_masks import BinaryMasks, masks_among
from auditor.attack.recursion.frame_order import descend_in_order, path_of_least_change
from auditor.attack.recursion.graph_descent import GraphDescent, descend_graph
from auditor.records import Clock


def moving(seed: int = 0) -> torch.Tensor:
    """A clip of SPEC whose frames drift, so that the ones near in time are alike."""
    wide = torch.nn.functional.interpolate(
        torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(seed)), (28, 28), mode="bicubic"
    )[0].clamp(0.0, 1.0)
    return torch.stack([wide[:, 2 * t : 2 * t + 16, 3 * t : 3 * t + 16] for t in range(SPEC.frames)])


# ------------------------------------------------------------------------------------------------ masks in a mixture


@pytest.mark.parametrize("images", [1, 2, 5, 8])
def test_masks_are_told_apart_in_a_mixture_of_images(images):
    masks = normal(60, 4, images) > 0.0
    gates = normal(60, 1, seed=1).expand(-1, images)
    mixed = (gates[:, None] * masks) @ normal(images, images, seed=2)
    found = masks_among(mixed + 1e-7 * normal(*mixed.shape, seed=3), gates)
    assert isinstance(found, BinaryMasks)
    assert not bool(found.undecided.any())
    # Images that count alike come in any order.
    columns = {tuple(m.flatten().tolist()) for m in masks.unbind(2)}
    assert {tuple(m.flatten().tolist()) for m in found.masks.unbind(2)} == columns


def test_clips_that_count_differently_keep_their_places():
    masks, gates = normal(80, 4, 3) > 0.0, normal(80, 3, seed=1)
    mixed = (gates[:, None] * masks) @ normal(3, 3, seed=2)
    found = masks_among(mixed, gates)
    assert isinstance(found, BinaryMasks)
    sure = ~found.undecided
    assert float(sure.double().mean()) > 0.98
    assert torch.equal(found.masks[sure], masks[sure])


def test_what_is_no_mixture_of_masks_is_declined():
    gates = normal(60, 1, seed=1).expand(-1, 4)
    assert masks_among(normal(60, 4, 4), gates) == "0 binary patterns fit 4 images"


# ------------------------------------------------------------------------------------------------------ whole descents


def test_rows_come_in_the_order_of_least_change():
    rows = torch.cumsum(normal(9, 40).abs(), 0)
    shuffled = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    order = shuffled[torch.tensor(path_of_least_change(rows[shuffled]))].tolist()
    assert order in (list(range(9)), list(range(9))[::-1])


@pytest.mark.parametrize("average", ["features", "logits"])
def test_frames_behind_an_average_are_solved_and_put_in_order(average):
    truth = moving()
    view = view_of(seeded(lambda: FrameNet(average=average)), truth[None], [3])
    found = descend_in_order(view, Clock(60.0))
    assert isinstance(found, GraphDescent)
    assert found.loose == (0,)
    assert len(found.values) >= 4
    backwards = [truth, truth.flip(0)]
    seen = [values_at(found.graph, t[None], found.values) for t in backwards]
    off = [
        max(float((v - s[n]).norm() / s[n].norm()) for n, v in found.values.items()) for s in seen
    ]  # fmt: skip
    assert min(off) < 1e-3
    right = seen[off.index(min(off))]
    assert all(torch.equal(opened, right[n] > 0.0) for n, opened in found.open.items() if n in found.values)


def test_the_order_of_frames_is_nowhere_in_the_update():
    """So a descent cannot know it: any other order of the same frames has the same gradient."""
    truth, net = clip(2), seeded(FrameNet)
    sent = [
        view_of(net, truth[list(order)][None], [3]).update.gradients for order in list(permutations(range(4)))[::7]
    ]
    for other in sent[1:]:
        for name, gradient in sent[0].items():
            assert torch.allclose(gradient, other[name], rtol=1e-4, atol=1e-6 * float(gradient.abs().max()))


def test_frames_that_do_not_differ_are_declined():
    found = descend_graph(view_of(seeded(FrameNet), clip(1)[:1].expand(4, -1, -1, -1)[None], [3]), Clock(60.0))
    assert isinstance(found, GraphDescent)
    assert "not told apart" in found.ended
    assert CLASSES == 10
