"""Tokens moved into spans one by one, while what they read of each other is held from sweep to sweep."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from auditor.records import Clock

Residuals = Callable[[Tensor, dict[int, Tensor]], Tensor]
# Step of the forward differences, relative to the coordinates.
_STEP = 1e-7
_FIRST, _DAMPING_DOWN, _DAMPING_UP, _LEAST = 1e-3, 0.2, 6.0, 1e-13
_SWEEPS, _POLISH, _INNER, _ROUNDS, _INNER_AGAIN = 16, 3, 3, 6, 12
# Tokens whose cost stands out from the median by this are tried again, from this many others' open parts.
_STANDS_OUT, _STARTS = 2.0, 12
# Largest distance of a token from its spans, relative: rounding leaves 1e-6 to 5e-4, a wrong token more than 1e-2.
CERTAIN = 1e-3
# Squared distance below which nothing better is to be found, and what a sweep has to gain.
_ENOUGH, _GAIN = 1e-12, 0.02


@dataclass(frozen=True)
class Refinement:
    """Coordinates of the tokens, and how far each is from the spans."""

    coordinates: Float[Tensor, "token coordinate"]
    distance: Float[Tensor, " token"]


def refine(
    residuals: Residuals,
    context: Callable[[Tensor], dict[int, Tensor]],
    start: Float[Tensor, "token coordinate"],
    free: Float[Tensor, "direction coordinate"],
    fill: Callable[[Tensor, Tensor], Tensor],
    clock: Clock,
    seed: int,
) -> Refinement:
    """Minimise every token's residual over the open directions, then over all of them.

    Levenberg-Marquardt (Marquardt 1963) for all tokens at once, each with a damping of its own; tokens that stand out
    start again from the smoothest filling and from the open parts of tokens that came out well.
    """
    m = start
    everything = torch.eye(start.shape[1], dtype=start.dtype)
    if len(free):
        m, cost = _sweeps(residuals, context, m, free, _SWEEPS, _FIRST, clock)
        for again in range(_ROUNDS):
            done, left = _sweeps(residuals, context, m, everything, _POLISH, 1e-8, clock)
            if clock.left < 0.0 or float(left.max()) < CERTAIN**2:
                return Refinement(done, left.sqrt())
            m, better = _restarted(residuals, context, m, cost, free, fill, clock, seed + again)
            if not better:
                break
            m, cost = _sweeps(residuals, context, m, free, _POLISH, 1e-5, clock)
    m, cost = _sweeps(residuals, context, m, everything, _POLISH, 1e-8, clock)
    return Refinement(m, cost.sqrt())


def _sweeps(
    residuals: Residuals,
    context: Callable[[Tensor], dict[int, Tensor]],
    m: Tensor,
    basis: Tensor,
    sweeps: int,
    damping: float,
    clock: Clock,
) -> tuple[Tensor, Tensor]:
    cost = residuals(m, context(m)).square().sum(1)
    for sweep in range(sweeps):
        m, _ = _minimised(residuals, m, context(m), basis, _INNER, damping, clock)
        before, cost = cost, residuals(m, context(m)).square().sum(1)
        damping = max(damping * 0.1, 1e-10)
        settled = float(cost.sum()) > (1.0 - _GAIN) * float(before.sum())
        if (settled and sweep) or clock.left < 0.0 or float(cost.max()) < _ENOUGH:
            break
    return m, cost


def _minimised(
    residuals: Residuals,
    m: Tensor,
    held: dict[int, Tensor],
    basis: Tensor,
    steps: int,
    damping: float,
    clock: Clock,
) -> tuple[Tensor, Tensor]:
    """Return the tokens after some steps, and the squared residual of each."""
    made = residuals(m, held)
    cost = made.square().sum(1)
    mu = torch.full_like(cost, damping)
    unit = torch.eye(len(basis), dtype=m.dtype)
    for _ in range(steps):
        if clock.left < 0.0 or float(cost.max()) < _ENOUGH:
            break
        step = _STEP * float(m.norm(dim=1).mean())
        slopes = torch.stack([(residuals(m + step * b, held) - made) / step for b in basis], dim=2)
        gram = slopes.transpose(1, 2) @ slopes + mu[:, None, None] * unit
        slope = slopes.transpose(1, 2) @ made[:, :, None]
        moved = m - torch.linalg.solve(gram, slope)[:, :, 0] @ basis
        there = residuals(moved, held)
        less = there.square().sum(1) < cost
        m, made = torch.where(less[:, None], moved, m), torch.where(less[:, None], there, made)
        cost = made.square().sum(1)
        mu = torch.where(less, (mu * _DAMPING_DOWN).clamp(min=_LEAST), mu * _DAMPING_UP)
    return m, cost


def _restarted(
    residuals: Residuals,
    context: Callable[[Tensor], dict[int, Tensor]],
    m: Tensor,
    cost: Tensor,
    free: Tensor,
    fill: Callable[[Tensor, Tensor], Tensor],
    clock: Clock,
    seed: int,
) -> tuple[Tensor, bool]:
    """Start the tokens that stand out again, and keep the best of each; tell whether any became better."""
    bad = cost > (_STANDS_OUT * cost.median()).clamp(min=CERTAIN**2)
    good = (~bad).nonzero().flatten()
    if not bool(bad.any()) or not len(good):
        return m, False
    filled = fill(m, bad)
    held = context(filled)
    generator = torch.Generator().manual_seed(seed)
    own = m - (m @ free.T) @ free
    best, least = m, torch.where(bad, residuals(m, held).square().sum(1), torch.zeros_like(cost))
    better = False
    for attempt in range(_STARTS + 1):
        start = filled
        if attempt:
            donors = good[torch.randint(len(good), (len(m),), generator=generator)]
            start = torch.where(bad[:, None], own + (m[donors] @ free.T) @ free, m)
        moved, now = _minimised(residuals, start, held, free, _INNER_AGAIN, 1e-4, clock)
        wins = bad & (now < least)
        better = better or bool((now[wins] < 0.7 * least[wins]).any())
        best, least = torch.where(wins[:, None], moved, best), torch.where(wins, now, least)
        if clock.left < 0.0:
            break
    return best, better
