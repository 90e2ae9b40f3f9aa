"""Max-pools on the way down and in the search, units that few spare equations tell, and how fast a search goes."""

import math
from dataclasses import replace

import pytest
import torch
from bench_nets import CLASSES, clip, seeded, target_of, view_of
from test_residual_recursion import conv_reading, gradient_of, normal, values_at
from torch import nn
from torch.nn import functional as F

from auditor.attack.recursion.call_graph import trace
from auditor.attack.recursion.descent_state import Partial
from auditor.attack.recursion.graph_descent import GraphDescent, descend_graph
from auditor.attack.recursion.grouped_system import solve_value
from auditor.attack.recursion.known_above import KnownAbove
from auditor.attack.recursion.masked_system import Solved, solve
from auditor.attack.recursion.masks.masked_reading import MaskedReading
from auditor.attack.recursion.search.mode_search import ModeSearch, Pace, search_modes
from auditor.attack.recursion.search.smooth_pools import SmoothPools
from auditor.attack.recursion.search.value_equations import ValueEquations
from auditor.attack.recursion.subnetwork import Operation
from auditor.attack.recursion.weight_system import columns
from auditor.prior.spectrum import Spectrum
from auditor.records import Budget, Clock


def test_one_wrong_unit_is_found_where_equations_are_hardly_more_than_positions():
    operation, x, full, mask = conv_reading(2, 12, (3, 4, 4))
    gradient = gradient_of(operation, x, full * mask).float()
    undecided = normal(*full.shape, seed=7) > 0.0
    assert int(undecided.sum()) > 30
    wrong = torch.zeros_like(mask)
    wrong[tuple(undecided.nonzero()[11].tolist())] = True
    given = MaskedReading(operation, full * (mask ^ wrong), gradient, full * undecided, (mask ^ wrong) & undecided)
    assert given.equations == 54
    made = solve([given])
    assert isinstance(made, Solved)
    assert made.flips == 1
    assert torch.equal(made.readings[0].open, mask & undecided)
    assert float((made.value - x).norm() / x.norm()) < 1e-4


def reading_of(conv: nn.Module, x: torch.Tensor, cotangent: torch.Tensor) -> MaskedReading:
    """A convolution as the graph knows it, with the gradient of its weight by autograd."""
    weight = conv.weight.detach().double().requires_grad_(True)
    out = F.conv3d(x, weight, None, conv.stride, conv.padding, conv.dilation, conv.groups)
    (gradient,) = torch.autograd.grad(out, weight, cotangent)
    told = {n: getattr(conv, n) for n in ("stride", "padding", "dilation", "groups")}
    operation = Operation("conv.weight", F.conv3d, (x, conv.weight), told, 0, x, out.detach())
    return MaskedReading(operation, cotangent, gradient)


def test_a_grouped_convolution_is_solved_group_by_group_and_a_depthwise_one_is_counted():
    x = normal(1, 6, 3, 4, 4).clamp(min=0.0)
    conv = seeded(lambda: nn.Conv3d(6, 9, 3, padding=1, groups=3))
    given = reading_of(conv, x, normal(1, 9, 3, 4, 4, seed=1))
    made = solve_value([given])
    assert isinstance(made, Solved)
    assert made.exact
    assert given.equations == 81
    assert float((made.value - x).norm() / x.norm()) < 1e-6
    # A wrong unit of the second group is told by the equations of that group alone.
    units = given.cotangent * (normal(1, 9, 3, 4, 4, seed=2) > 1.0)
    wrong = torch.zeros_like(units, dtype=torch.bool)
    wrong[tuple((units[:, 3:6] != 0.0).nonzero()[2] + torch.tensor([0, 3, 0, 0, 0]))] = True
    opened = (units != 0.0) & ~wrong
    again = solve_value([replace(given, cotangent=given.cotangent - units * wrong, units=units, open=opened)])
    assert again.flips == 1
    assert torch.equal(again.readings[0].open, units != 0.0)
    assert float((again.value - x).norm() / x.norm()) < 1e-5
    depthwise = seeded(lambda: nn.Conv3d(6, 6, 3, padding=1, groups=6))
    said = solve_value([reading_of(depthwise, x, normal(1, 6, 3, 4, 4, seed=1))])
    assert said == "conv.weight gives each of 6 groups 27 equations for 48 positions of a channel"


@pytest.mark.filterwarnings("ignore:Using padding")
def test_padding_in_words_is_padding_in_numbers():
    x = normal(1, 4, 3, 4, 4).clamp(min=0.0)
    for kernel, padding in (((3, 3, 3), "same"), ((1, 2, 2), "valid")):
        conv = seeded(lambda kernel=kernel, padding=padding: nn.Conv3d(4, 16, kernel, padding=padding))
        shape = F.conv3d(x, conv.weight.double(), padding=padding).shape
        made = solve_value([reading_of(conv, x, normal(*shape, seed=1))])
        assert float((made.value - x).norm() / x.norm()) < 1e-6
    uneven = seeded(lambda: nn.Conv3d(4, 16, (1, 2, 2), padding="same"))
    said = solve_value([reading_of(uneven, x, normal(1, 16, 3, 4, 4))])
    assert said == "conv.weight is a convolution padded more on one side than on the other"


def test_a_smooth_pool_is_the_mean_over_random_errors():
    x = normal(1, 2, 6, 7, seed=1)
    width = 0.4
    with SmoothPools(width):
        made = F.max_pool2d(x, 3, 2, 1)
    uniform = torch.rand(4000, *x.shape[1:], generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    gumbel = -(-uniform.clamp(1e-12).log()).log()
    errors = (gumbel - 0.57721566) / (math.pi / math.sqrt(6.0)) * width * x.std()
    drawn = F.max_pool2d(x + errors, 3, 2, 1)
    assert made.shape == (1, *drawn.shape[1:])
    assert float((made[0] - drawn.mean(0)).abs().max()) < 6.0 * float(drawn.std(0).max()) / math.sqrt(4000)


@pytest.mark.parametrize(("pool", "shape"), [(F.max_pool1d, (2, 9)), (F.max_pool3d, (2, 4, 6, 5))])
def test_with_no_error_a_smooth_pool_is_the_pool(pool, shape):
    x = normal(1, *shape)
    with SmoothPools(1e-6):
        made = pool(x, 2, stride=2)
        left = pool(x, 2, dilation=2)
    assert torch.allclose(made, pool(x, 2, stride=2), atol=1e-4)
    assert torch.equal(left, pool(x, 2, dilation=2))


class Pooled(nn.Module):
    """A stem with a max-pool, as in nets for images, and one convolution below an average."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv3d(3, 48, (1, 5, 5), (1, 2, 2), (0, 2, 2))
        self.last = nn.Conv3d(48, 64, 3, padding=1)
        self.head = nn.Linear(64, CLASSES)

    def forward(self, x):
        x = F.max_pool3d(self.stem(x[:, :, :3]).relu(), (1, 3, 3), (1, 2, 2), (0, 1, 1))
        return self.head(self.last(x).relu().mean((2, 3, 4)))


def test_what_a_max_pool_makes_is_solved_and_is_an_equation_in_the_clip():
    truth = clip(1)
    found = descend_graph(view_of(seeded(Pooled), truth[None], [3]), Clock(60.0))
    assert isinstance(found, GraphDescent)
    assert found.ended == "max_pool3d mixes values that are not known"
    pool = next(call for call in found.graph.calls if call.name == "max_pool3d")
    seen = values_at(found.graph, truth[None], pool.outputs)[pool.outputs[0]]
    lowest = found.values[min(found.values)]
    assert float((lowest - seen).norm() / seen.norm()) < 1e-4
    equations = ValueEquations(found, 1.0)
    assert equations.misfit(truth[None]) < 1e-8
    assert equations.misfit(clip(2)[None]) > 1e-3


def test_what_is_known_above_a_max_pool_is_no_equation_below_it():
    graph = trace(target_of(seeded(Pooled)).model, clip(1)[None])
    made = [call.outputs[0] for call in graph.calls if graph.kind(call) == "rectifies"]
    seen = values_at(graph, clip(1)[None], made)
    last = {made[1]: seen[made[1]]}
    masks = {n: v > 0.0 for n, v in last.items()}
    assert KnownAbove(graph, made[0], last, masks, graph.kind).bounds == []
    pooled = graph.calls[graph.producer[made[0]] + 1].outputs[0]
    assert len(KnownAbove(graph, pooled, last, masks, graph.kind).bounds) == 1


def test_equations_that_rest_on_a_wrong_mask_do_not_hold_a_clip_back():
    truth = clip(1)
    found = descend_graph(view_of(seeded(Pooled), truth[None], [3]), Clock(60.0))
    stem = next(call for call in found.graph.calls if call.weight == "stem.weight")
    (read,) = stem.inputs
    value = values_at(found.graph, truth[None], [read])[read]
    operation = found.graph.operation(stem)
    rows = torch.linalg.qr(normal(columns(value, operation).shape[0], 40)).Q.T
    known = rows @ columns(value, operation).double()
    none, noise = value.new_zeros(0), torch.full((40,), 1e-6, dtype=torch.float64)
    reading = MaskedReading(operation, none, none)
    solved = Solved(none, none, False, rows, known, noise, 0.0, (reading,), 0, ())
    right, wrong = (
        replace(found, partial=Partial(read, "", replace(solved, known=known * factor))) for factor in (1.0, 1.1)
    )
    size = {n: [float(r.square().mean()) for r in ValueEquations(f, 0.0)(truth[None], 1e-3)] for n, f in
            (("right", right), ("wrong", wrong))}  # fmt: skip
    assert max(size["right"]) < 0.01
    # A tenth of what is known is missed, a hundred times the error that is admitted; it counts as one.
    assert 0.9 < max(size["wrong"]) <= 1.0
    assert ValueEquations(wrong, 0.0).misfit(truth[None]) < 1e-8
    assert ValueEquations(right, 0.0)(clip(2)[None], 1e-3)[0].square().mean() > 0.9


def test_a_pace_shrinks_as_equations_come_to_be_fulfilled():
    pace = Pace(fast=0.7, slow=0.9, ahead=1.5)
    assert pace.next(0.1, 0.0) == pytest.approx(0.07)
    assert pace.next(0.1, 1.0) == pytest.approx(0.09)
    assert pace.next(0.1, (0.08 / 1.5) ** 2) == pytest.approx(0.08)


class Linear:
    """Noisy sums over a clip, which many clips fulfil."""

    def __init__(self, truth: torch.Tensor) -> None:
        self._matrix = normal(200, truth.numel(), dtype=torch.float32) / truth.numel() ** 0.5
        self._known = self._matrix @ truth.flatten()
        self.asked: list[float] = []

    def __call__(self, clips, error):
        self.asked.append(error)
        return [(self._matrix @ clips.flatten() - self._known) / error]

    def misfit(self, clips):
        return float((self._matrix @ clips.flatten() - self._known).square().mean())


def test_a_second_pace_is_taken_only_where_the_first_left_equations_open():
    truth = clip(1)[None, :2, :, :6, :6]
    grey = torch.full_like(truth, 0.5)
    paces = (Pace(fast=0.3, slow=0.3, levels=7), Pace(fast=0.5, slow=0.5, levels=2))
    equations = Linear(truth)
    made = search_modes(
        equations, grey, Spectrum(), Budget(seconds=60.0, steps=1000), Clock(60.0), 0, ModeSearch(paces, ())
    )
    assert made.misfit < 1e-5
    assert len(made.trace) <= 7
    short = ModeSearch((Pace(fast=0.9, slow=0.9, levels=1), paces[1]), ())
    again = search_modes(Linear(truth), grey, Spectrum(), Budget(seconds=60.0, steps=1000), Clock(60.0), 0, short)
    assert len(again.trace) == 3
    assert again.misfit == min(one.objective for one in again.trace)
