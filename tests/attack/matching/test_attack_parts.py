"""The parts of gradient matching, each against a closed form or an independent implementation."""

import pytest
import torch
from bench_nets import clip, flat, seeded, view_of

from auditor.attack import GradientMatching
from auditor.attack.matching.objective import Cosine, SquaredError
from auditor.attack.matching.prior import NearReference, SpatialVariation, TemporalVariation
from auditor.attack.matching.surrogate_gradient import SurrogateGradient
from auditor.attack.start import Grey, ReferenceFrame
from auditor.records import Budget, Knowledge, Outcome, Reconstruction, charge
from auditor.solvers.descent import alone, descend
from auditor.solvers.schedule import Schedule, soft_sign

KNOWS = Knowledge(clip_shape=(4, 3, 6, 8), batch=2, classes=10)


def ramp(axis: int) -> torch.Tensor:
    """A clip that rises by 0.1 per step along one axis and is constant along the others."""
    shape = [2, 4, 3, 6, 8]
    line = 0.1 * torch.arange(shape[axis], dtype=torch.float32)
    view = [1] * 5
    view[axis] = -1
    return line.view(view).expand(shape)


@pytest.mark.parametrize(("axis", "spatial", "temporal"), [(1, 0.0, 0.1), (3, 0.1, 0.0), (4, 0.1, 0.0), (2, 0.0, 0.0)])
def test_each_prior_penalises_its_own_axes_and_width_is_one_of_them(axis, spatial, temporal):
    assert float(SpatialVariation(1.0)(ramp(axis), KNOWS)) == pytest.approx(spatial, abs=1e-6)
    assert float(TemporalVariation(1.0)(ramp(axis), KNOWS)) == pytest.approx(temporal, abs=1e-6)


def test_near_reference_is_the_mean_distance_to_it():
    reference = torch.full((1, 3, 6, 8), 0.25)
    knows = Knowledge(clip_shape=(4, 3, 6, 8), batch=2, classes=10, reference=reference)
    assert float(NearReference(2.0)(torch.full((2, 4, 3, 6, 8), 0.75), knows)) == pytest.approx(1.0)
    assert float(NearReference(2.0)(torch.rand(2, 4, 3, 6, 8), KNOWS)) == 0.0


def test_objectives_agree_with_flat_vectors():
    g = torch.Generator().manual_seed(0)
    a = {"w": torch.randn(3, 4, generator=g), "b": torch.randn(5, generator=g)}
    b = {"w": torch.randn(3, 4, generator=g), "b": torch.randn(5, generator=g)}
    x, y = (torch.cat([d["w"].flatten(), d["b"]]) for d in (a, b))
    assert float(Cosine()(a, b)) == pytest.approx(
        1 - float(torch.nn.functional.cosine_similarity(x, y, dim=0)), abs=1e-6
    )
    assert float(SquaredError()(a, b)) == pytest.approx(float((x - y).square().sum() / y.square().sum()), rel=1e-6)
    assert abs(float(Cosine()(a, a))) < 1e-6
    assert float(SquaredError()(a, a)) == 0.0


def test_soft_sign_is_bounded_per_clip_and_keeps_signs():
    g = torch.randn(2, 4, 3, 6, 8) * torch.tensor([1e-6, 1e3]).view(2, 1, 1, 1, 1)
    s = soft_sign(g)
    assert float(s.abs().max()) <= 1.0
    assert bool((s.sign() == g.sign()).all())
    assert float(s[0].abs().mean()) == pytest.approx(float(s[1].abs().mean()), rel=0.2)


def test_schedule_warms_up_decays_and_anneals():
    s = Schedule(rate=0.1, warm_up=0.1, anneal=0.01)
    assert s.step_size(0.0) < 0.01
    assert s.step_size(0.1) == pytest.approx(0.1)
    assert s.step_size(1.0) == pytest.approx(0.0, abs=1e-9)
    assert s.prior_weight(0.0) == 1.0
    assert s.prior_weight(1.0) == pytest.approx(0.01)


def test_starts_are_seeded_and_in_range():
    a = Grey()(KNOWS, torch.Generator().manual_seed(1))
    b = Grey()(KNOWS, torch.Generator().manual_seed(1))
    assert torch.equal(a, b)
    assert a.shape == (2, 4, 3, 6, 8)
    assert float(a.min()) >= 0.0
    with pytest.raises(LookupError):
        ReferenceFrame()(KNOWS, torch.Generator())


def test_the_reference_is_held_over_all_frames():
    frame = torch.rand(1, 3, 6, 8)
    knows = Knowledge(clip_shape=(4, 3, 6, 8), batch=1, classes=10, reference=frame)
    made = ReferenceFrame(noise=0.0)(knows, torch.Generator())
    assert torch.equal(made, frame.expand(1, 4, 3, 6, 8))


def test_surrogate_curvature_changes_the_second_derivative_only():
    x = torch.randn(200, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    v = torch.randn(200, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    plain = torch.relu(x)
    (first,) = torch.autograd.grad((plain * v).sum(), x)
    with SurrogateGradient(0.5):
        bent = torch.relu(x)
        (first_bent,) = torch.autograd.grad((bent * v).sum(), x, create_graph=True)
    assert torch.equal(plain, bent)
    assert torch.equal(first, first_bent)
    (second,) = torch.autograd.grad(first_bent.sum(), x)
    width = 0.5 * float(x.detach().std())
    s = torch.sigmoid(x.detach() / width)
    assert torch.allclose(second, v * s * (1 - s) / width, atol=1e-12)


def test_surrogate_curvature_keeps_in_place_relus_in_place():
    x = torch.tensor([-1.0, 2.0])
    with SurrogateGradient(0.5):
        y = x * 1.0
        torch.relu_(y)
        z = x * 1.0
        torch.nn.functional.relu(z, inplace=True)
    assert y.tolist() == [0.0, 2.0]
    assert z.tolist() == [0.0, 2.0]


def test_the_loop_minimises_and_pairs_the_best_clip_with_its_own_objective():
    goal = clip(4)[None]

    def objective(x):
        return (x - goal).square().mean()

    run = descend(
        alone(objective),
        lambda x: x.sum() * 0,
        torch.full_like(goal, 0.5),
        Schedule(),
        Budget(seconds=60, steps=300),
        10,
    )
    assert not isinstance(run, float)
    assert run.steps == 300
    assert float(objective(run.clips)) == pytest.approx(run.objective, rel=1e-6)
    assert run.objective < 1e-4
    assert run.objective <= min(t.objective for t in run.trace)


def test_a_plateau_is_told_from_a_fall():
    goal = clip(4)[None]
    flat_run = descend(
        alone(lambda x: (x - goal).square().mean() * 0 + 1.0 + (x * 0).sum()), lambda x: x.sum() * 0, goal, Schedule(),
        Budget(seconds=60, steps=100), 10,
    )  # fmt: skip
    assert not isinstance(flat_run, float)
    assert flat_run.outcome is Outcome.CONVERGED
    weight = torch.linspace(0.01, 1.0, goal.numel()).view_as(goal)
    settled = descend(
        alone(lambda x: (weight * (x - goal)).abs().mean()),
        lambda x: x.sum() * 0,
        goal.clone(),
        Schedule(),
        Budget(seconds=60, steps=200),
        10,
    )
    assert not isinstance(settled, float)
    assert settled.outcome is Outcome.CONVERGED
    view = view_of(seeded(flat), clip(5)[None], [3])
    falling = GradientMatching().invert(view, Budget(seconds=60, steps=100), 0)
    assert isinstance(falling, Reconstruction)
    assert falling.outcome is Outcome.OUT_OF_BUDGET


def test_a_nan_is_a_divergence_and_the_iterate_before_it_survives():
    calls = []

    def objective(x):
        calls.append(1)
        return x.sum() * (float("nan") if len(calls) > 30 else 1.0)

    run = descend(
        alone(objective),
        lambda x: x.sum() * 0,
        torch.full((1, 2, 1, 4, 4), 0.5),
        Schedule(),
        Budget(seconds=60, steps=100),
        5,
    )
    assert not isinstance(run, float)
    assert run.outcome is Outcome.DIVERGED
    assert bool(torch.isfinite(run.clips).all())


def test_a_budget_too_small_is_not_pretended():
    def slow(x):
        charge(0.05)
        return x.square().sum()

    pace = descend(
        alone(slow), lambda x: x.sum() * 0, torch.rand(1, 2, 1, 4, 4), Schedule(), Budget(seconds=0.5, steps=1000), 60
    )
    assert isinstance(pace, float)
    assert pace >= 0.05
