"""Values that their own equations leave open, completed by what is known further up: against known answers."""

import pytest
import torch
from bench_nets import CLASSES, seeded, target_of, view_of
from residual_nets import with_seen_norms
from torch import nn

from auditor.attack.recursion.call_graph import CallGraph, trace
from auditor.attack.recursion.graph_descent import GraphDescent, descend_graph
from auditor.attack.recursion.joint_completion import complete_jointly
from auditor.attack.recursion.known_above import KnownAbove
from auditor.attack.recursion.masked_system import Solved, solve
from auditor.attack.recursion.masks.masked_reading import MaskedReading
from auditor.probe import shipped_probes
from auditor.records import Clock, InputSpec

WIDTH, ABOVE, EXTENT = 12, 16, (4, 8, 8)


class TwoLayers(nn.Module):
    """A rectified value, a convolution that reads it and a second rectifier; or a block with a shortcut around it."""

    def __init__(self, shortcut: bool = False) -> None:
        super().__init__()
        self.first = nn.Conv3d(3, WIDTH, 3, (1, 2, 2), 1)
        self.inside = nn.Conv3d(WIDTH, WIDTH, 3, 1, 1)
        self.second = nn.Conv3d(WIDTH, WIDTH if shortcut else ABOVE, 3, 1, 1)
        self.shortcut, self.head = shortcut, nn.Linear(WIDTH if shortcut else ABOVE, CLASSES)

    def forward(self, x):
        x = torch.relu(self.first(x))
        y = torch.relu(self.inside(x)) if self.shortcut else x
        y = self.second(y) + x if self.shortcut else self.second(y)
        return self.head(torch.relu(y).mean((2, 3, 4)))


def kind(graph: CallGraph):
    def of(call) -> str:
        if call.weight is not None:
            return "weighted"
        return "rectifies" if graph.rectifies(call) else "affine" if graph.affine(call) else "mixes"

    return of


def scene(shortcut: bool = False):
    """The graph, every value of a run on noise, and the numbers of the values that rectifiers make."""
    net = seeded(lambda: TwoLayers(shortcut)).double()
    graph = trace(target_of(net.float()).model, torch.rand(1, 4, 3, 16, 16))
    assert graph is not None
    clip = torch.rand(1, 4, 3, 16, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        for _, seen in graph.forward(clip, [graph.logits], {}):
            values = seen
    made = [call.outputs[0] for call in graph.calls if graph.rectifies(call)]
    return graph, {n: v.detach() for n, v in values.items()}, made


def own_equations(graph: CallGraph, weight: str, value: torch.Tensor, channels: int) -> Solved:
    """The equations that a weight's gradient gives, with a gradient at only so many of its output channels."""
    call = next(c for c in graph.calls if c.weight == weight)
    operation = graph.operation(call)
    shape = graph.shapes[call.outputs[0]]
    cotangent = torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    cotangent[:, channels:] = 0.0
    kernel = operation.convolution["weight"].detach().double().requires_grad_(True)
    out = nn.functional.conv3d(value, kernel, None, 1, 1)
    (gradient,) = torch.autograd.grad(out, kernel, cotangent)
    made = solve([MaskedReading(operation, cotangent, gradient.float())])
    assert isinstance(made, Solved)
    assert not made.exact
    return made


def off(made: torch.Tensor, truth: torch.Tensor) -> float:
    return float((made - truth).norm() / truth.norm())


def test_known_outputs_above_complete_a_value_in_all_channels_at_once():
    graph, values, (below, above) = scene()
    truth, known = values[below], values[above]
    found = own_equations(graph, "second.weight", truth, 5)
    assert off(found.value, truth) > 0.3
    bounds = KnownAbove(graph, below, {above: known}, {above: known > 0.0}, kind(graph))
    assert [bound.at_most for bound in bounds.bounds] == [False]
    assert torch.allclose(bounds(truth)[0].clamp(min=0.0), known, atol=1e-5)
    made = complete_jointly(found, bounds, True, Clock(60.0))
    assert isinstance(made, Solved)
    assert made.exact
    assert made.residual < 1e-5
    assert off(made.value, truth) < 1e-4
    # Error bars are the errors' size.
    assert 0.2 < float(((made.value - truth) / made.deviation).square().mean().sqrt()) < 5.0


def test_wrong_values_above_complete_nothing():
    graph, values, (below, above) = scene()
    truth, known = values[below], values[above]
    found = own_equations(graph, "second.weight", truth, 5)
    other = known.roll(1, 2)
    bounds = KnownAbove(graph, below, {above: other}, {above: other > 0.0}, kind(graph))
    assert "contradicts" in complete_jointly(found, bounds, True, Clock(60.0))


def test_too_few_values_above_say_that_directions_stay_open():
    graph, values, (below, above) = scene()
    truth, known = values[below], values[above]
    found = own_equations(graph, "second.weight", truth, 1)
    bounds = KnownAbove(graph, below, {above: known * 0.0}, {above: known < 0.0}, kind(graph))
    assert "open" in complete_jointly(found, bounds, False, Clock(60.0))


def test_an_unknown_shortcut_bounds_the_branch_by_its_sign():
    graph, values, (first, inside, above) = scene(shortcut=True)
    bounds = KnownAbove(graph, inside, {above: values[above]}, {above: values[above] > 0.0}, kind(graph))
    assert [bound.at_most for bound in bounds.bounds] == [True]
    (made,) = bounds(values[inside])
    (bound,) = bounds.bounds
    # The branch alone is what is left when the shortcut's value is taken off, so the truth breaks no bound.
    assert float(bound.missed(made).abs().max()) < 1e-5
    assert float(bound.missed(made + values[first] + 0.1).abs().max()) > 0.05
    found = own_equations(graph, "second.weight", values[inside], 8)
    completed = complete_jointly(found, bounds, True, Clock(60.0))
    assert isinstance(completed, Solved)
    assert off(completed.value, values[inside]) < 1e-3


def test_what_does_not_lead_to_a_known_value_is_left_out():
    graph, values, (below, _) = scene()
    bounds = KnownAbove(graph, below, {}, {}, kind(graph))
    assert bounds.bounds == []
    found = own_equations(graph, "second.weight", values[below], 1)
    assert "open" in complete_jointly(found, bounds, True, Clock(60.0))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_r3d_18_at_its_published_size_gives_the_input_of_layer3_away():
    video = pytest.importorskip("torchvision.models.video")
    spec = InputSpec(frames=16, channels=3, height=112, width=112, layout="NCTHW", mean=(0.4,) * 3, std=(0.22,) * 3)
    net = seeded(lambda: with_seen_norms(video.r3d_18(num_classes=101)))
    truth = next(p for p in shipped_probes(spec) if p.name == "park_walker").clip
    found = descend_graph(view_of(net, truth[None], [7], spec=spec, classes=101), Clock(1700.0))
    assert isinstance(found, GraphDescent)
    reader = next(call for call in found.graph.calls if call.weight == "layer3.0.conv1.0.weight")
    (entered,) = reader.inputs
    assert entered in found.values
    with torch.no_grad():
        for _, seen in found.graph.forward(truth[None], [entered], {}):
            values = seen
    assert off(found.values[entered], values[entered]) < 1e-3
