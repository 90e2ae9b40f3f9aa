"""Brackets of b^T (I + c A)^-1 b against dense algebra: they hold it, narrow, and meet."""

import pytest
import torch

from auditor.solvers.lanczos import Tridiagonal, lanczos


def problem(rows: int = 40, n: int = 60, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return A of five decades with a null space, and b."""
    g = torch.Generator().manual_seed(seed)
    sizes = torch.logspace(1.5, -1, n, dtype=torch.float64)
    j = torch.randn(rows, n, generator=g, dtype=torch.float64) * sizes
    return j.T @ j, torch.randn(n, generator=g, dtype=torch.float64)


@pytest.mark.parametrize("scale", [1.0, 1e-2, 1e-4])
def test_the_exact_value_lies_between_two_sides_that_meet(scale):
    a, b = problem()
    exact = float(b @ torch.linalg.solve(torch.eye(60, dtype=torch.float64) + scale * a, b))
    sides = [found.bracket(scale) for found in lanczos(lambda v: a @ v, b)]
    assert all(low <= exact * (1 + 1e-6) and high >= exact * (1 - 1e-6) for low, high in sides)
    lows, highs = (torch.tensor(side) for side in zip(*sides, strict=True))
    # What counts as rounded off changes a little on the way.
    assert bool((lows.diff() >= -1e-3 * exact).all())
    assert bool((highs.diff() <= 1e-3 * exact).all())
    assert highs[0] - lows[0] > 10 * (highs[-1] - lows[-1])
    # Forty rows: after forty-one products the Krylov space is exhausted.
    assert len(sides) <= 42
    # They give way to what float32 would have rounded off.
    assert float(highs[-1]) == pytest.approx(exact, rel=5e-3)
    assert float(lows[-1]) == pytest.approx(exact, rel=5e-3)


@pytest.mark.parametrize("k", [1, 3, 8])
def test_the_upper_side_is_what_is_left_to_somebody_who_sees_so_many_numbers(k):
    a, b = problem()
    scale = 1e-3
    basis = [b / b.norm()]
    for _ in range(k - 1):
        w = a @ basis[-1]
        for q in basis + basis:
            w = w - q * (q @ w)
        basis.append(w / w.norm())
    q = torch.stack(basis, 1)
    # The numbers are Q^T A x, and noise on them of covariance Q^T A Q / scale.
    seen = (a @ q).T
    error = seen @ seen.T + q.T @ a @ q / scale
    left = float(b @ b - (seen @ b) @ torch.linalg.solve(error, seen @ b))
    found = next(t for t in lanczos(lambda v: a @ v, b) if len(t.diagonal) == k)
    assert found.bracket(scale)[1] == pytest.approx(left, rel=1e-4)


def test_nothing_that_is_seen_leaves_all():
    b = torch.ones(5, dtype=torch.float64)
    (only,) = lanczos(torch.zeros_like, b)
    assert only.bracket(1.0) == (pytest.approx(5.0), pytest.approx(5.0))
    assert Tridiagonal((), (), 5.0).bracket(1.0) == (5.0, 5.0)
    assert list(lanczos(torch.zeros_like, torch.zeros(3))) == []


def test_what_float32_cannot_tell_widens_the_bracket_and_does_not_break_it():
    g = torch.Generator().manual_seed(1)
    turn = torch.linalg.qr(torch.randn(50, 50, generator=g, dtype=torch.float64))[0]
    sizes = torch.logspace(9, -2, 50, dtype=torch.float64)
    a = (turn * sizes) @ turn.T
    b = turn @ torch.logspace(2, -1, 50, dtype=torch.float64)
    exact = float(b @ torch.linalg.solve(torch.eye(50, dtype=torch.float64) + a, b))
    rounded = a.float()
    for found in lanczos(lambda v: rounded @ v, b.float()):
        low, high = found.bracket(1.0)
        assert low <= exact <= high
        if len(found.diagonal) == 30:
            break
