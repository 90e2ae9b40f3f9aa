"""Objectives and what goes around them, each against plain vectors, finite differences or a hand-made case."""

import pytest
import torch

from auditor.attack.matching.gradient_regularisation import GradientRegularised
from auditor.attack.matching.objective import Cosine, SquaredError
from auditor.attack.matching.weighting import LargestEntries, Tag


def gradients(seed: int) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return {"conv.weight": torch.randn(4, 3, 2, generator=g, dtype=torch.float64),
            "conv.bias": 0.1 * torch.randn(4, generator=g, dtype=torch.float64),
            "head.weight": 5.0 * torch.randn(6, generator=g, dtype=torch.float64)}  # fmt: skip


A, B = gradients(0), gradients(1)


def flattened(values: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([v.flatten() for v in values.values()])


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
