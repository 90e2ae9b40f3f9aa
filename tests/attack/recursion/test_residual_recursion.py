"""Recursion through residual nets: each piece against autograd or a known answer, then whole descents and attacks."""

import gc
import re

import pytest
import torch
from bench_nets import CLASSES, SPEC, clip, psnr, seeded, target_of, view_of
from residual_nets import ResidualNet, with_seen_norms
from torch import nn
from torch.nn import functional as F

from auditor.attack.recursion.call_graph import CallGraph, trace
from auditor.attack.recursion.graph_descent import GraphDescent, descend_graph
from auditor.attack.recursion.masked_system import Solved, solve, split
from auditor.attack.recursion.masks.corner_peeling import PeeledMasks, peel_corners
from auditor.attack.recursion.masks.masked_reading import MaskedReading
from auditor.attack.recursion.residual_recursion import ResidualRecursion
from auditor.attack.recursion.sign_completion import complete
from auditor.federated import LocalClient
from auditor.model import load
from auditor.prior.spectrum import ring_means
from auditor.probe import shipped_probes
from auditor.records import (
    Budget,
    Clock,
    FederatedProtocol,
    InputSpec,
    Knowledge,
    Outcome,
    Reconstruction,
    Skipped,
    View,
)
from auditor.solvers.gauss_newton import gauss_newton

ATTACK = ResidualRecursion()


def normal(*shape: int, seed: int = 0, dtype=torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def graph_of(net: nn.Module) -> CallGraph:
    graph = trace(target_of(net).model, torch.rand(1, *SPEC.clip_shape))
    assert graph is not None
    return graph


def values_at(graph: CallGraph, truth: torch.Tensor, wanted) -> dict[int, torch.Tensor]:
    seen: dict[int, torch.Tensor] = {}
    with torch.no_grad():
        for _, values in graph.forward(truth, list(wanted), {}):
            seen = values
    return seen


# ------------------------------------------------------------------------------------------------- the graph of calls


def test_a_graph_repeats_the_net_and_its_backward_pass():
    net, truth = seeded(ResidualNet), clip(1)[None]
    graph = graph_of(net)
    logits = values_at(graph, truth, [graph.logits])[graph.logits]
    assert torch.allclose(logits, net(truth.transpose(1, 2)), atol=1e-5)
    assert sum(call.weight is not None for call in graph.calls) == 14
    # Affine pieces, pulled one by one, are the backward pass of what autograd makes of them at once.
    convs = [call for call in graph.calls if call.weight == "blocks.1.conv1.weight"]
    assert len(convs) == 1
    pull = normal(*graph.shapes[convs[0].outputs[0]])
    (made,) = graph.pull(convs[0], {convs[0].outputs[0]: pull}).values()
    x = torch.zeros(graph.shapes[convs[0].inputs[0]], dtype=torch.float64, requires_grad=True)
    out = F.conv3d(x, net.blocks[1].conv1.weight.detach().double(), None, 2, 1)
    assert torch.allclose(made, torch.autograd.grad(out, x, pull)[0], atol=1e-12)


def test_a_graph_holds_no_value_that_the_net_has_let_go():
    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(3, CLASSES)
            self.held = 0

        def forward(self, x):
            for _ in range(20):
                x = x.sin()
            values = [v for v in gc.get_objects() if type(v) is torch.Tensor and v.shape == x.shape]
            self.held = len(values)
            return self.head(x.mean((2, 3, 4)))

    net = seeded(Deep)
    assert len(graph_of(net).calls) >= 22
    assert net.held < 10


def test_calls_are_told_apart_by_what_they_do():
    class Kinds(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm3d(3)
            self.head = nn.Linear(3, CLASSES)

        def forward(self, x):
            y = self.norm(x).clamp(min=0.0).permute(0, 2, 1, 3, 4)
            y = F.hardswish(F.max_pool3d(y, (1, 2, 2)), inplace=True)
            return self.head(torch.sigmoid(y).mean((1, 3, 4)))

    graph = graph_of(seeded(Kinds))
    named = {call.name: call for call in graph.calls}
    assert graph.affine(named["batch_norm"])
    assert graph.affine(named["mean"])
    assert not graph.affine(named["sigmoid"])
    assert not graph.affine(named["clamp"])
    assert graph.rectifies(named["clamp"])
    assert not graph.rectifies(named["sigmoid"])
    assert graph.rearranges(named["permute"])
    assert not graph.rearranges(named["batch_norm"])
    assert not graph.rearranges(named["hardswish"])
    assert graph.kind(named["max_pool3d"]) == "picks"
    assert graph.kind(named["hardswish"]) == "mixes"


def test_the_backward_pass_of_norms_does_not_depend_on_how_gradients_lie_in_memory():
    """The backward pass of BatchNorm on the CPU is wrong for some strides (seen with PyTorch 2.14)."""
    norm = with_seen_norms(nn.BatchNorm3d(16)).eval()

    class Normed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.head = nn.Conv3d(3, 16, 3, padding=1), norm, nn.Linear(16, CLASSES)

        def forward(self, x):
            return self.head(self.norm(self.conv(x)).mean((2, 3, 4)))

    graph = graph_of(Normed().eval())
    call = next(c for c in graph.calls if c.name == "batch_norm")
    pull = normal(*graph.shapes[call.outputs[0]])
    last = pull[0].flatten(1).T.contiguous().T.reshape(pull.shape[1:])[None]
    assert torch.equal(last, pull)
    assert last.stride() != pull.stride()
    plain, strided = (graph.pull(call, {call.outputs[0]: c})[call.inputs[0]] for c in (pull, last))
    expected = pull * (norm.weight / (norm.running_var + norm.eps).sqrt()).detach().double().view(-1, 1, 1, 1)
    assert torch.allclose(plain, expected, rtol=1e-6)
    assert torch.equal(plain, strided)


# ------------------------------------------------------------------------------------------ masks behind an average


def conv_reading(channels: int, inputs: int, extent, stride: int = 1, seed: int = 0):
    """A convolution as the graph knows it, a rectified input, and a masked gradient at its output."""

    class One(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lift = nn.Conv3d(3, inputs, 1)
            self.conv = nn.Conv3d(inputs, channels, 3, stride, 1, bias=False)

        def forward(self, x):
            return self.conv(self.lift(x[:, :, : extent[0], : extent[1], : extent[2]])).flatten(1)[:, :CLASSES]

    graph = graph_of(seeded(One))
    call = next(c for c in graph.calls if c.weight == "conv.weight")
    operation = graph.operation(call)
    x = normal(1, inputs, *extent, seed=seed).clamp(min=0.0)
    full = normal(*operation.output.shape, seed=seed + 1)
    mask = normal(*full.shape, seed=seed + 2) > 0.0
    return operation, x, full, mask


def gradient_of(operation, x, cotangent):
    settings = operation.convolution
    weight = settings["weight"].detach().double().requires_grad_(True)
    out = F.conv3d(x, weight, None, settings["stride"], settings["padding"])
    return torch.autograd.grad(out, weight, cotangent)[0]


def test_masks_behind_an_average_follow_from_the_corner_inwards():
    operation, x, full, mask = conv_reading(40, 36, (2, 3, 4))
    gates = full[0].flatten(1)[:, 0].clone()
    gates[3] = 0.0  # a channel that the head does not hear
    gradient = gradient_of(operation, x, mask * gates.view(1, -1, 1, 1, 1)).float().double()
    found = peel_corners(operation, gates.view(1, -1, 1, 1, 1).expand_as(full), gradient)
    assert isinstance(found, PeeledMasks)
    assert found.off < 1e-3
    assert found.loose == ()
    heard = gates != 0.0
    assert torch.equal(found.masks[:, heard], mask[:, heard])


def test_more_positions_than_channels_are_declined():
    operation, x, full, mask = conv_reading(8, 36, (2, 3, 4))
    gates = full[0].flatten(1)[:, 0]
    gradient = gradient_of(operation, x, mask * gates.view(1, -1, 1, 1, 1))
    assert "24 positions" in peel_corners(operation, gates.view(1, -1, 1, 1, 1).expand_as(full), gradient)


# ------------------------------------------------------------------------------------- values from weights' gradients


def test_undecided_units_are_settled_by_the_gradient_below():
    operation, x, full, mask = conv_reading(16, 6, (4, 5, 5))
    gradient = gradient_of(operation, x, full * mask).float()
    undecided = (normal(*full.shape, seed=7) > 1.9) & (full != 0.0)
    wrong = undecided & (normal(*full.shape, seed=8) > 0.0)
    assert int(wrong.sum()) > 5
    open_ = (mask ^ wrong) & undecided
    made = solve([MaskedReading(operation, full * (mask ^ wrong), gradient, full * undecided, open_)])
    assert isinstance(made, Solved)
    assert made.exact
    assert made.flips == int(wrong.sum())
    assert torch.equal(made.readings[0].open, mask & undecided)
    assert made.residual < 1e-6
    assert float((made.value - x).norm() / x.norm()) < 1e-5
    # Error bars are the errors' size.
    shares = (made.value - x)[made.deviation > 0] / made.deviation[made.deviation > 0]
    assert 0.3 < float(shares.square().mean().sqrt()) < 3.0
    opened, left = split(made.value, made.deviation)
    assert not bool((opened & (x == 0)).any())
    assert not bool((~opened & ~left & (x > 0)).any())


def test_strides_are_solved_class_by_class_and_say_what_is_missing():
    operation, x, full, mask = conv_reading(24, 6, (4, 6, 6), stride=2)
    gradient = gradient_of(operation, x, full * mask)
    made = solve([MaskedReading(operation, full * mask, gradient)])
    assert isinstance(made, Solved)
    # Classes of 18 positions, read by 1, 2, 4 or 8 taps of 24 channels: all are determined.
    assert made.exact
    assert float((made.value - x).norm() / x.norm()) < 1e-6
    operation, x, full, mask = conv_reading(12, 6, (4, 6, 6), stride=2)
    made = solve([MaskedReading(operation, full * mask, gradient_of(operation, x, full * mask))])
    assert not made.exact
    assert made.projections.shape == (12 + 7 * 18, 8 * 18)
    rows = x[0].flatten(1).T
    assert torch.allclose(made.projections @ rows, made.known, atol=1e-6)


def test_signs_complete_what_equations_leave_open():
    count, free = 400, 60
    basis = torch.linalg.qr(normal(count, count)).Q
    truth = normal(count, 3, seed=1).clamp(min=0.0)
    start = basis[:, free:] @ (basis[:, free:].T @ truth) + 1e-6 * normal(count, 3, seed=2)
    assert float((start - truth).norm() / truth.norm()) > 0.2
    made = complete(start, basis[:, :free], torch.full_like(start, 1e-6))
    assert bool(made.unique.all())
    assert float((made.value - truth).norm() / truth.norm()) < 1e-5
    assert 0.3 < float(((made.value - truth) / made.deviation).square().mean().sqrt()) < 3.0
    # Values that are all positive hold nothing, and say so.
    made = complete(start + 10.0, basis[:, :free], torch.full_like(start, 1e-6))
    assert not bool(made.unique.any())


# ------------------------------------------------------------------------------------------------ the search for a clip


def test_the_diagonal_pooled_over_rings_makes_blurred_clips_easy():
    """A blur's strength is a function of the ring alone, so that scaling by it leaves nothing to iterate."""
    shape = (4, 3, 8, 8)
    g = torch.Generator().manual_seed(3)
    law = ring_means(torch.rand(1, *shape, generator=g, dtype=torch.float64))
    assert torch.allclose(ring_means(law), law)
    gain = 10.0 ** (6.0 * law - 1.0)
    truth = torch.randn(1, *shape, generator=g, dtype=torch.float64)
    answer = gain.square() * truth / (1.0 + gain.square())

    def off(z):
        return [gain * (z - truth)]

    start = torch.zeros_like(truth)
    plain, scaled = (gauss_newton(off, start, 6, 1e-8, Clock(60.0), pooled) for pooled in (None, ring_means))
    assert float((scaled.variable - answer).norm() / answer.norm()) < 1e-5
    assert float((plain.variable - answer).norm() / answer.norm()) > 0.05


# --------------------------------------------------------------------------------------------------- whole descents


def test_a_residual_net_is_solved_down_to_its_stem():
    truth = clip(1)
    view = view_of(seeded(ResidualNet), truth[None], [3])
    found = descend_graph(view, Clock(60.0))
    assert isinstance(found, GraphDescent)
    assert len(found.values) >= 10
    seen = values_at(found.graph, truth[None], [n for n in found.values if n in found.graph.producer])
    for n, value in found.values.items():
        assert float((value - seen[n]).norm() / seen[n].norm()) < 1e-3
        if n in found.open:
            assert torch.equal(found.open[n], seen[n] > 0.0)
    assert max(found.residuals.values()) < 1e-4


def test_the_head_of_another_label_is_no_obstacle_and_none_is_needed():
    view = view_of(seeded(ResidualNet), clip(4)[None], [7], known=False)
    found = descend_graph(view, Clock(60.0))
    assert isinstance(found, GraphDescent)
    assert len(found.values) >= 10


def test_a_head_whose_bias_the_exporter_left_out_is_no_obstacle():
    net = seeded(ResidualNet)
    net.head = seeded(lambda: torch.nn.Linear(48, CLASSES, bias=False))
    found = descend_graph(view_of(net, clip(1)[None], [3], known=False), Clock(60.0))
    assert isinstance(found, GraphDescent)
    assert len(found.values) >= 10


def test_the_attack_finds_the_clip_and_another_clients_update_does_not():
    truth = clip(2)
    net = seeded(ResidualNet)
    made = ATTACK.invert(view_of(net, truth[None], [3]), Budget(seconds=60.0, steps=400), 0)
    assert isinstance(made, Reconstruction)
    assert psnr(made.clips[0], truth) > 30.0
    assert max(v for k, v in made.certificate.items() if k.startswith("system_residual")) < 1e-4
    null = ATTACK.invert(view_of(net, clip(5)[None], [3]), Budget(seconds=60.0, steps=200), 0)
    assert psnr(null.clips[0], truth) < psnr(torch.full_like(truth, 0.5), truth) + 3.0


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("dynamo", [False, True])
def test_an_imported_graph_is_solved_as_far_as_the_module(tmp_path, dynamo):
    net, truth = seeded(ResidualNet), clip(1)
    file = str(tmp_path / "n.onnx")
    torch.onnx.export(net, (torch.rand(1, *SPEC.clip_shape).transpose(1, 2),), file, dynamo=dynamo)
    target = load(file)
    client = LocalClient(target.model, FederatedProtocol(sent=tuple(target.parameters)))
    knows = Knowledge(clip_shape=SPEC.clip_shape, batch=1, classes=10, labels=(3,))
    view = View(target=target, client=client, update=client.update(truth[None], torch.tensor([3])), knowledge=knows)
    found = descend_graph(view, Clock(60.0))
    assert isinstance(found, GraphDescent)
    assert len(found.values) >= 10


def test_what_cannot_be_solved_ends_with_its_reason():
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv3d(3, 8, 3, 2, 1), nn.Linear(8, CLASSES)

        def forward(self, x):
            return self.head(F.silu(self.conv(x)).mean((2, 3, 4)))

    view = view_of(seeded(Gated), clip()[None], [3])
    made = ATTACK.invert(view, Budget(seconds=10.0, steps=10), 0)
    assert isinstance(made, Skipped)
    assert "silu mixes values that are not known" in made.reason
    grouped = [nn.Conv3d(3, 6, 3, 2, 1, groups=3), nn.ReLU(), nn.Flatten(), nn.Linear(768, CLASSES)]
    found = descend_graph(view_of(seeded(lambda: nn.Sequential(*grouped)), clip()[None], [3]), Clock(10.0))
    assert re.search(r"each of 3 groups \d+ equations for 1024 positions", found.ended)
    both = view_of(seeded(ResidualNet), torch.stack([clip(0), clip(1)]), [3, 4], known=False)
    assert "2 clips share the update, and their labels are not known" in ATTACK.obstacle(both)


@pytest.mark.slow
def test_r3d_18_gives_its_clip_away():
    video = pytest.importorskip("torchvision.models.video")
    spec = InputSpec(frames=8, channels=3, height=32, width=32, layout="NCTHW", mean=(0.4,) * 3, std=(0.22,) * 3)
    net = seeded(lambda: with_seen_norms(video.r3d_18(num_classes=101)))
    truth = next(p for p in shipped_probes(spec) if p.name == "park_walker").clip
    view = view_of(net, truth[None], [7], spec=spec, classes=101)
    found = descend_graph(view, Clock(300.0))
    assert isinstance(found, GraphDescent)
    assert "layer2.0.conv2.0.weight" in found.residuals
    made = ATTACK.invert(view, Budget(seconds=300.0, steps=2000), 0)
    assert psnr(made.clips[0], truth) > 30.0
    assert made.outcome is not Outcome.UNVERIFIED
