"""Recursion where several images share one gradient: frames of a 2-D net behind an average, and clips of a batch."""

import dataclasses
from itertools import permutations, takewhile

import pytest
import torch
from bench_nets import SPEC, clip, psnr, seeded, view_of
from residual_nets import FrameNet, ResidualNet
from test_residual_recursion import normal, values_at
from torch import nn

from auditor.attack.recursion.call_graph import trace_client
from auditor.attack.recursion.frame_order import descend_in_order, path_of_least_change
from auditor.attack.recursion.graph_descent import GraphDescent, descend_graph
from auditor.attack.recursion.head_gradient import gradient_at_head
from auditor.attack.recursion.masks.binary_masks import BinaryMasks, masks_among
from auditor.attack.recursion.residual_recursion import ResidualRecursion
from auditor.exposure import determinacy
from auditor.records import Budget, Clock, Reconstruction


def moving(seed: int = 0) -> torch.Tensor:
    """A clip of SPEC whose frames drift, so that the ones near in time are alike."""
    wide = torch.nn.functional.interpolate(
        torch.rand(1, 3, 12, 12, generator=torch.Generator().manual_seed(seed)), (40, 40), mode="bicubic"
    )[0].clamp(0.0, 1.0)
    return torch.stack([wide[:, 5 * t : 5 * t + 16, 3 * t : 3 * t + 16] for t in range(SPEC.frames)])


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


def test_places_that_an_average_hides_are_put_right_by_the_convolution_that_reads_across_them():
    """A kernel over time alone, as in R(2+1)D: which of four places is which, only the next one down tells."""

    def factored():
        widths = ((3, 24, 3, 2, 1), (24, 64, 3, (2, 2, 2), 1), (64, 96, (1, 3, 3), (1, 2, 2), (0, 1, 1)))
        below = [m for w in widths for m in (nn.Conv3d(*w), nn.BatchNorm3d(w[1]), nn.ReLU())]
        top = [nn.Conv3d(96, 96, (1, 3, 3), 1, (0, 1, 1)), nn.ReLU(), nn.Conv3d(96, 128, (3, 1, 1), 1, (1, 0, 0))]
        net = nn.Sequential(*below, *top, nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(128, 10))
        with torch.no_grad():
            for _ in range(20):
                net(torch.rand(4, 3, *SPEC.clip_shape[:1], 16, 16))
        return net

    truth = clip(1)
    view = view_of(seeded(factored), truth[None], [3])
    hidden = descend_graph(view, Clock(60.0))
    assert isinstance(hidden, GraphDescent)
    assert hidden.hidden
    assert hidden.loose == (3, 4)
    assert "reads across positions whose order the average hides" in hidden.ended
    found = descend_in_order(view, Clock(60.0))
    assert isinstance(found, GraphDescent)
    assert len(found.values) > len(hidden.values)
    seen = values_at(found.graph, truth[None], found.values)
    assert all(float((v - seen[n]).norm() / seen[n].norm()) < 1e-3 for n, v in found.values.items())


def test_the_order_of_frames_is_nowhere_in_the_update():
    """So a descent cannot know it: any other order of the same frames has the same gradient."""
    truth, net = clip(2), seeded(FrameNet)
    sent = [view_of(net, truth[list(order)][None], [3]).update.gradients for order in list(permutations(range(4)))[::7]]
    for other in sent[1:]:
        for name, gradient in sent[0].items():
            assert torch.allclose(gradient, other[name], rtol=1e-4, atol=1e-6 * float(gradient.abs().max()))


def test_frames_that_do_not_differ_are_declined():
    found = descend_graph(view_of(seeded(FrameNet), clip(1)[:1].expand(4, -1, -1, -1)[None], [3]), Clock(60.0))
    assert isinstance(found, GraphDescent)
    assert "not told apart" in found.ended


def batch(*labels: int):
    """A wide residual net, some clips, and the view of a client with them."""
    net = seeded(lambda: ResidualNet((24, 40, 64)))
    clips = torch.stack([clip(n) for n in range(len(labels))])
    return net, clips, view_of(net, clips, list(labels))


@pytest.mark.parametrize("labels", [(3, 7), (7, 3, 1), (4, 4)])
def test_the_labels_tell_the_gradients_of_a_batch_apart(labels):
    net, clips, view = batch(*labels)
    graph = trace_client(view)
    assert graph is not None
    place, told = gradient_at_head(view, graph)
    logits = net(clips.transpose(1, 2)).detach().requires_grad_(True)
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor(labels))
    (expected,) = torch.autograd.grad(loss, logits)
    assert graph.calls[place].weight == "head.weight"
    off = [float((told[list(o)] - expected).norm() / expected.norm()) for o in permutations(range(len(labels)))]
    # Clips with the same label have no order of their own.
    assert (off[0] if len(set(labels)) == len(labels) else min(off)) < 1e-3


def test_labels_that_are_wrong_are_noticed():
    _, _, view = batch(3, 7)
    wrong = dataclasses.replace(view, knowledge=dataclasses.replace(view.knowledge, labels=(3, 8)))
    assert isinstance(descend_graph(wrong, Clock(60.0)), str)


def test_a_batch_is_solved_clip_by_clip():
    _, clips, view = batch(3, 7)
    found = descend_in_order(view, Clock(60.0))
    assert isinstance(found, GraphDescent)
    assert found.loose == ()
    assert len(found.values) >= 6
    seen = values_at(found.graph, clips, found.values)
    for n, value in found.values.items():
        assert float((value - seen[n]).norm() / seen[n].norm()) < 1e-3
    budget = Budget(seconds=60.0, steps=150)
    made = ResidualRecursion().invert(view, budget, 0)
    assert isinstance(made, Reconstruction)
    grey = [psnr(torch.full_like(c, 0.5), c) for c in clips]
    assert all(psnr(m, c) > g + 6.0 for m, c, g in zip(made.clips, clips, grey, strict=True))
    # Each clip is at its label's place.
    assert all(psnr(m, c) < psnr(n, c) - 3.0 for m, n, c in zip(made.clips.flip(0), made.clips, clips, strict=True))


@pytest.mark.parametrize(("make", "count"), [(ResidualNet, 1), (FrameNet, 1), (lambda: ResidualNet((32, 64, 96)), 2)])
def test_determinacy_tells_from_shapes_how_far_equations_alone_go(make, count):
    # Of the first clip rounding decides on some machines whether the stem's equations are read at all.
    view = view_of(seeded(make), torch.stack([moving(n + 1) for n in range(count)]), list(range(count)))
    shapes = {n: tuple(p.shape) for n, p in view.target.parameters.items()}
    told = determinacy(view.target.layers, shapes, count)[::-1]
    # From the head down, without the head, as far as every stack has the rank that it needs.
    enough = list(takewhile(lambda d: d.rank == d.unknowns, told[1:]))
    assert 3 <= len(enough) < len(told) - 1
    found = descend_in_order(view, Clock(60.0))
    assert isinstance(found, GraphDescent)
    for stack in enough:
        assert all(f"{name}.weight" in found.residuals for name in stack.layers), stack.layers
    # Where equations run out, their number is the predicted rank, unless what is known above makes up for it.
    short = told[1 + len(enough)]
    depth = next(d for d in found.depth if f"{short.layers[0]}.weight" in d.weights)
    assert depth.share * depth.unknowns <= short.rank + 0.5
