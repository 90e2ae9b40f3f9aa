"""Step rules on problems whose minimum is known, and inside the loop."""

import itertools

import pytest
import torch
from bench_nets import clip, flat, psnr, seeded, view_of

from auditor.attack.matching.gradient_matching import GradientMatching
from auditor.attack.matching.objective import SquaredError
from auditor.attack.matching.parametrisation import Modes
from auditor.records import Budget, Reconstruction
from auditor.solvers.conjugate_gradients import conjugate_gradients
from auditor.solvers.descent import descend
from auditor.solvers.lbfgs import Lbfgs
from auditor.solvers.schedule import Schedule
from auditor.solvers.step_rule import Problem, SoftSign, StepRule

SHAPE = (1, 2, 1, 4, 4)
GOAL = torch.rand(SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
SCALES = torch.logspace(-1.5, 0.5, 32, dtype=torch.float64).view(SHAPE)


def residuals(x, progress):
    return (SCALES * (x - GOAL)).flatten()


def objective(x, progress):
    value = residuals(x, progress).square().sum()
    return value, value.detach()


def ended(rule: StepRule, evaluations: int):
    run = descend(
        objective, lambda x: x.sum() * 0, torch.full_like(GOAL, 0.5), Schedule(anneal=1.0),
        Budget(seconds=60, steps=evaluations), 1, rule=rule,
    )  # fmt: skip
    assert not isinstance(run, float)
    return run


def test_rules_reach_the_minimum_of_a_stretched_bowl():
    first = float(objective(torch.full_like(GOAL, 0.5), 0)[0])
    assert ended(Lbfgs(), 240).objective < 1e-6 * first
    assert ended(SoftSign(), 240).objective > 1e-10 * first


@pytest.mark.parametrize("rule", [SoftSign(), Lbfgs()], ids=lambda r: type(r).__name__)
def test_the_best_iterate_comes_with_its_own_objective(rule):
    run = ended(rule, 60)
    assert isinstance(rule, StepRule)
    assert float(objective(run.clips, 0)[0]) == pytest.approx(run.objective, rel=1e-9)
    assert run.objective == pytest.approx(min(t.objective for t in run.trace), rel=1e-9)
    assert run.steps == 60 // rule.cost


def test_lbfgs_takes_a_step_back_when_it_went_uphill():
    z = torch.tensor([[3.0, -2.0]], dtype=torch.float64)
    mover = Lbfgs().bind(z, Problem(rate=0.5))
    values = []
    for _ in range(80):  # Rosenbrock's valley: full steps overshoot
        x = z.clone().requires_grad_(True)
        value = (1 - x[0, 0]) ** 2 + 100 * (x[0, 1] - x[0, 0] ** 2) ** 2
        (slope,) = torch.autograd.grad(value, x)
        values.append(float(value.detach()))
        mover.step(values[-1], slope, 0.0, 0.1)
    assert any(b > a for a, b in itertools.pairwise(values))
    assert min(values) < 1e-8


def test_conjugate_gradients_solve_a_system():
    g = torch.Generator().manual_seed(0)
    root = torch.randn(8, 8, generator=g, dtype=torch.float64)
    matrix, b = root @ root.T + torch.eye(8), torch.randn(8, generator=g, dtype=torch.float64)
    found, products = conjugate_gradients(lambda v: matrix @ v, b, 20, 1e-6)
    assert torch.allclose(found, torch.linalg.solve(matrix, b), atol=1e-6)
    assert products <= 20


def test_conjugate_gradients_are_scaled_by_the_diagonal_that_they_are_given():
    diagonal = torch.logspace(0, 8, 60, dtype=torch.float64)
    matrix = torch.diag(diagonal) + 0.1 * torch.ones(60, 60, dtype=torch.float64)
    b = torch.randn(60, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    answer = torch.linalg.solve(matrix, b)
    plain, _ = conjugate_gradients(lambda v: matrix @ v, b, 10, 1e-9)
    scaled, products = conjugate_gradients(lambda v: matrix @ v, b, 10, 1e-9, None, diagonal)
    assert products <= 10
    assert float((scaled - answer).norm() / answer.norm()) < 1e-6
    assert float((plain - answer).norm() / answer.norm()) > 0.1


def test_rules_match_gradients_too():
    truth = clip(5)
    view = view_of(seeded(flat), truth[None], [3])
    attack = GradientMatching(rule=Lbfgs(), parametrisation=Modes(), priors=(), objective=SquaredError())
    made = attack.invert(view, Budget(seconds=120, steps=78), 0)
    assert isinstance(made, Reconstruction)
    assert made.steps == 78
    assert made.objective < 0.3 * made.trace[0].objective
    # Measured: 3.3 dB.
    assert psnr(made.clips[0], truth) > psnr(torch.full_like(truth, 0.5), truth) + 1.5
