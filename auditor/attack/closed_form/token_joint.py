"""Tokens moved into spans all at once, what they read of each other moving with them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from auditor.attack.closed_form.token_problem import TokenProblem
from auditor.attack.closed_form.token_refinement import TokenSearch, stand_out, with_others_open
from auditor.records import Clock
from auditor.solvers.conjugate_gradients import conjugate_gradients
from auditor.solvers.gauss_newton import Linearised

# Steps of the first descent, of one with outliers weighed down, of one with all alike, and of the last.
_FIRST, _WEIGHTED, _AGAIN, _LAST = 8, 4, 5, 10
# Products of one step; damping at first, when it goes on, what it is multiplied with, and how often in one step.
_PRODUCTS, _TOLERANCE = 60, 1e-3
_FAR, _NEAR, _DOWN, _UP, _TRIES, _LEAST = 1e-3, 1e-6, 0.1, 10.0, 4, 1e-12
# A descent ends where a step gains less than this, after some.
_GAIN, _PATIENCE = 0.05, 3
# Sum of squared distances of all tokens below which nothing better is to be found.
_ENOUGH = 1e-10
# Rounds of restarts, and a token's squared distance that counts as found.
_ROUNDS, _FOUND = 8, 1e-8
# Pairs of starts of a bad token in each round, beside the filling, and steps of each.
_STARTS, _STEPS = 5, 10


def solve_jointly(
    problem: TokenProblem,
    start: Float[Tensor, "token coordinate"],
    free: Float[Tensor, "direction coordinate"],
    likely: Callable[[Tensor], Tensor],
    clock: Clock,
    seed: int,
) -> Float[Tensor, "token coordinate"]:
    """Return tokens that lie in all spans, from a likely filling of what is open; the best found where none do.

    No round begins when the clock's work is used up.

    Of several clips every clip's tokens solve the equations, each with the context of its own clip, and a start that is
    a mixture goes to one of them: Gauss-Newton over all tokens at once (damped, by conjugate gradients), as steps that
    hold what tokens read of each other run away from it together. Tokens that stand out are weighed down by Cauchy's
    weights (Holland and Welsch 1977), which puts the others' context right, and start again: from the filling, from the
    open parts of tokens that came out well, and at random.
    """
    problem = problem.behind_first()
    open_ = likely(free)
    search = TokenSearch(problem.residuals, problem.context, clock)
    alike = torch.ones(len(start), dtype=start.dtype)
    m = _descended(problem, start, open_, _FIRST, _FAR, alike)
    before = float("inf")
    for again in range(_ROUNDS):
        cost = _cost(problem, m)
        if float(cost.max()) < _FOUND or float(cost.sum()) > (1.0 - _GAIN) * before or clock.left < 0.0:
            break
        before = float(cost.sum())
        m = _descended(problem, m, open_, _WEIGHTED, _NEAR, (1.0 + cost / cost.median()).rsqrt())
        m = _restarted(problem, search, m, start, free, open_, seed + again)
        m = _descended(problem, m, open_, _AGAIN, _NEAR, alike)
    everything = likely(torch.eye(start.shape[1], dtype=start.dtype))
    return _descended(problem, m, everything, _LAST, _NEAR, alike)


def _cost(problem: TokenProblem, m: Tensor) -> Float[Tensor, " token"]:
    return problem.violated(m, problem.context(m)).square().sum(1)


def _descended(problem: TokenProblem, m: Tensor, basis: Tensor, steps: int, mu: float, weight: Tensor) -> Tensor:
    """Take damped Gauss-Newton steps along the directions of a basis; tokens' residuals are weighed."""
    for done in range(steps):
        step = _step(problem, m, basis, mu, weight)
        if step is None:
            break
        m, mu = m + step.move, max(step.damping * _DOWN, _LEAST)
        if step.after < _ENOUGH or (done >= _PATIENCE and step.after > (1.0 - _GAIN) * step.before):
            break
    return m


@dataclass(frozen=True)
class _DampedStep:
    move: Float[Tensor, "token coordinate"]
    damping: float
    before: float
    after: float


def _step(problem: TokenProblem, m: Tensor, basis: Tensor, mu: float, weight: Tensor) -> _DampedStep | None:
    """Return the first step that gains, damped more and more; None where none does."""
    hidden = problem.context(m)

    def weighed(a: Tensor) -> tuple[Tensor]:
        return (problem.violated(m + a @ basis, hidden) * weight[:, None],)

    about = Linearised(weighed, torch.zeros(len(m), len(basis), dtype=m.dtype))
    before, slope = float(about.residuals[0].square().sum()), about.transposed(about.residuals)
    for attempt in range(_TRIES):
        damping = mu * _UP**attempt
        step, _ = conjugate_gradients(partial(_damped, about, damping), -slope, _PRODUCTS, _TOLERANCE)
        with torch.no_grad():
            after = float(weighed(step)[0].square().sum())
        if after < before:
            return _DampedStep(move=step @ basis, damping=damping, before=before, after=after)
    return None


def _damped(about: Linearised, damping: float, v: Tensor) -> Tensor:
    return about.gram(v) + damping * v


def _restarted(
    problem: TokenProblem, search: TokenSearch, m: Tensor, filled: Tensor, free: Tensor, open_: Tensor, seed: int
) -> Tensor:
    """Start the tokens that stand out again, what they read of the others being held; keep the best of each."""
    bad = stand_out(_cost(problem, m), _FOUND)
    if not bool(bad.any()) or bool(bad.all()):
        return m
    generator = torch.Generator().manual_seed(seed)

    def starts() -> Iterator[Tensor]:
        yield filled
        for _ in range(_STARTS):
            yield with_others_open(m, free, ~bad, generator)
            yield filled + torch.randn(len(m), len(open_), generator=generator, dtype=m.dtype) @ open_

    return search.best_of(m, problem.context(m), bad, starts(), open_, _STEPS)[0]
