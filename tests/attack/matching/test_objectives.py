"""Objectives and what goes around them, each against plain vectors, finite differences or a hand-made case."""

import pytest
import torch
from bench_nets import clip, pooled, seeded, view_of

from auditor.attack.matching.gradient_matching import GradientMatching
from auditor.attack.matching.gradient_regularisation import GradientRegularised
from auditor.attack.matching.objective import Cosine, SquaredError
from auditor.attack.matching.running_statistics import running_distance
from auditor.attack.matching.weighting import LargestEntries, Tag, Weighted
from auditor.records import Budget, NormInput, Reconstruction


def gradients(seed: int) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return {"conv.weight": torch.randn(4, 3, 2, generator=g, dtype=torch.float64),
            "conv.bias": 0.1 * torch.randn(4, generator=g, dtype=torch.float64),
            "head.weight": 5.0 * torch.randn(6, generator=g, dtype=torch.float64)}  # fmt: skip


A, B = gradients(0), gradients(1)
LAYERED = Weighted((("conv.bias", 0.0), ("conv.*", 4.0)), otherwise=0.25)


def flattened(values: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([v.flatten() for v in values.values()])


def test_weights_by_parameter_are_a_weighted_inner_product():
    diagonal = flattened({n: torch.full_like(v, LAYERED.weight(n)) for n, v in A.items()})
    x, y = flattened(A), flattened(B)
    cosine = (diagonal * x * y).sum() / ((diagonal * x * x).sum() * (diagonal * y * y).sum()).sqrt()
    assert float(LAYERED(A, B)) == pytest.approx(1 - float(cosine), abs=1e-12)
    squared = Weighted(LAYERED.weights, 0.25, SquaredError())(A, B)
    assert float(squared) == pytest.approx(float((diagonal * (x - y) ** 2).sum() / (diagonal * y * y).sum()), rel=1e-12)
    assert [LAYERED.weight(n) for n in A] == [4.0, 0.0, 0.25]


def test_a_layer_can_be_matched_alone_and_none_is_no_error():
    alone = Weighted((("head.*", 1.0),), otherwise=0.0)
    assert float(alone(A, {**A, "conv.weight": B["conv.weight"]})) == pytest.approx(0.0, abs=1e-12)
    assert float(Weighted((), otherwise=0.0)(A, B)) == 0.0


def test_the_largest_entries_are_a_share_of_every_parameter():
    objective = LargestEntries(0.5, SquaredError())
    kept = {n: objective.mask(g) for n, g in B.items()}
    assert [int(m.sum()) for m in kept.values()] == [12, 2, 3]
    for n, m in kept.items():
        assert float(B[n][m == 1].abs().min()) >= float(B[n][m == 0].abs().max())
    small = {n: torch.where(m == 1, B[n], B[n] + 7.0) for n, m in kept.items()}
    assert float(objective(small, B)) == 0.0
    assert float(LargestEntries(1.0)(A, B)) == pytest.approx(float(Cosine()(A, B)), abs=1e-12)
    assert int(LargestEntries(0.01).mask(torch.zeros(5)).sum()) == 5  # all tie


def test_tag_is_its_formula():
    energy = float(flattened(B).square().sum())
    unit = (energy / len(flattened(B))) ** 0.5
    expected = sum(
        float((A[n] - B[n]).square().sum()) + 0.1 * (1 - k / 3) * unit * float((A[n] - B[n]).abs().sum())
        for k, n in enumerate(A)
    )
    assert float(Tag(0.1)(A, B)) == pytest.approx(expected / energy, rel=1e-12)
    assert float(Tag()(B, B)) == 0.0
    halved = ({n: v / 2 for n, v in A.items()}, {n: v / 2 for n, v in B.items()})
    assert float(Tag()(*halved)) == pytest.approx(float(Tag()(A, B)), rel=1e-12)


def test_the_regularised_slope_is_that_of_the_objective_with_the_norm_of_its_gradient():
    curvature = torch.linspace(0.5, 3.0, 6, dtype=torch.float64)

    def objective(x, progress):
        value = 0.5 * (curvature * x * x).sum() + 0.1 * (x**3).sum()
        return value, value.detach()

    x = torch.linspace(-1.0, 1.0, 6, dtype=torch.float64).requires_grad_(True)
    rho, blend = 1e-4, 0.4
    value, score = GradientRegularised(rho, blend)(objective)(x, 0.0)
    assert float(value.detach()) == float(score) == float(objective(x, 0.0)[1])
    (slope,) = torch.autograd.grad(value, x)
    # The first-order claim: a blend b at distance rho is the gradient of D + b rho ||grad D||.
    (plain,) = torch.autograd.grad(objective(x, 0.0)[0], x, create_graph=True)
    (expected,) = torch.autograd.grad(objective(x, 0.0)[0] + blend * rho * plain.norm(), x)
    assert torch.allclose(slope, expected, atol=1e-7)
    assert float((slope - plain.detach()).norm()) > 1e-5


@pytest.mark.parametrize("axes", [(5,), (5, 4), (3, 5, 4)])
def test_running_statistics_are_compared_by_channel_in_any_dimension(axes):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, *axes, generator=g, dtype=torch.float64) * 2.0 + 1.0
    mean, variance = torch.tensor([0.0, 1.0, 2.0]).double(), torch.tensor([1.0, 4.0, 9.0]).double()
    call = NormInput(
        site="bn", mean="m", variance="v", old_mean=mean, old_variance=variance, rate=0.1, unbiased=True, input=x
    )
    expected = sum(
        (float(x[:, c].mean()) - m) ** 2 / v + (float(x[:, c].std(correction=0)) / v**0.5 - 1) ** 2
        for c, (m, v) in enumerate(zip(mean.tolist(), variance.tolist(), strict=True))
    )
    assert float(running_distance([call])) == pytest.approx(expected / 3, rel=1e-6)
    assert float(running_distance([call, call])) == pytest.approx(expected / 3, rel=1e-6)
    assert float(running_distance([])) == 0.0


def test_running_statistics_of_a_trained_model_pull_towards_them():
    torch.manual_seed(0)
    net = seeded(pooled)
    truth = clip(5)
    with torch.no_grad():  # a model whose BatchNorm has seen clips like this one
        seen = net[0](truth.transpose(0, 1)[None])
        net[1].running_mean.copy_(seen.mean((0, 2, 3, 4)))
        net[1].running_var.copy_(seen.var((0, 2, 3, 4)))
    view = view_of(net, truth[None], [3])
    budget = Budget(seconds=120, steps=60)
    made = GradientMatching(running=0.1).invert(view, budget, 0)
    assert isinstance(made, Reconstruction)
    again = GradientMatching(running=0.1).measure(view, made.clips, made.labels)
    assert made.objective == pytest.approx(again, rel=1e-3)
    grey = torch.full_like(truth, 0.5)[None]
    assert GradientMatching(running=1.0, judge=Weighted((), 0.0)).measure(view, truth[None], (3,)) < 1e-4
    assert GradientMatching(running=1.0, judge=Weighted((), 0.0)).measure(view, grey, (3,)) > 0.02
