"""Levenberg-Marquardt for few unknowns and many residuals, with a Jacobian by differences."""

from collections.abc import Callable

import torch
from torch import Tensor

from auditor.records import repeated

# Relative step of the differences: half of float64's digits.
_STEP = 1e-7
_FIRST, _LEAST, _MOST = 1e-2, 1e-12, 1e8
_HALVINGS = 10
# A step on a Jacobian that was only updated has to halve the residual, else the Jacobian is made anew; one on a new
# Jacobian that gains less than this is the last.
_GOOD, _LEAST_GAIN = 0.5, 1e-4


def minimise(
    residuals: Callable[[Tensor], Tensor], start: Tensor, steps: int, enough: float, going: Callable[[], bool]
) -> tuple[Tensor, float]:
    """Minimise ||r(z)||^2 (Levenberg 1944, Marquardt 1963) in float64; return the best z and ||r(z)||.

    Columns are scaled by their own norms, as Marquardt does; between good steps the Jacobian is updated by Broyden's
    rule, for differences cost an evaluation per unknown. Stops at `enough`, after `steps`, when no step helps, or
    when `going` says no.

    Not scipy.optimize.least_squares, whose methods make the Jacobian anew at every step: on heads of eight kinds and
    lengths (GRU, LSTM, RNN, attention; 3 and 8 frames) it ended at the same features after 2 to 7 times as many
    evaluations ("trf" 41 to 1087, "lm" 54 to 1438, this 15 to 409), and where neither explained the update (attention
    over 8 frames) it took twice the time.
    """
    z, residuals = start.double().clone(), repeated(residuals)
    r = residuals(z)
    damping, slopes, fresh = _FIRST, None, False
    for _ in range(steps):
        left = float(r.norm())
        if left <= enough or not going() or not bool(torch.isfinite(r).all()):
            break
        if slopes is None:
            slopes, fresh = jacobian(residuals, z, r), True
        gram, slope = slopes.T @ slopes, slopes.T @ r
        scale = gram.diagonal().clamp_min(1e-12 * float(gram.diagonal().max()) + 1e-300)
        found = None
        for _ in range(_HALVINGS if fresh else 1):
            step = torch.linalg.solve(gram + torch.diag(damping * scale), -slope)
            there = residuals(z + step.view_as(z))
            if float(there.norm()) < left:
                found = step, there
                break
            damping = min(damping * 5.0, _MOST)
        if found is None:
            if fresh:
                break
            slopes = None
            continue
        step, there = found
        damping = max(damping / 10.0, _LEAST)
        if float(there.norm()) > left * (1.0 - _LEAST_GAIN) and fresh:
            z, r = z + step.view_as(z), there
            break
        good = float(there.norm()) < _GOOD * left
        # Broyden 1965: what the step itself taught, while steps are good.
        slopes = slopes + torch.outer(there - r - slopes @ step, step) / step.square().sum() if good else None
        z, r, fresh = z + step.view_as(z), there, False
    return z, float(r.norm())


def jacobian(residuals: Callable[[Tensor], Tensor], z: Tensor, r: Tensor) -> Tensor:
    """Return dr/dz (residual, unknown) at z, where the residuals are r, by forward differences."""
    step = _STEP * max(float(z.abs().max()), 1e-30)
    columns = []
    for k in range(z.numel()):
        ahead = z.flatten().clone()
        ahead[k] += step
        columns.append((residuals(ahead.view_as(z)) - r) / step)
    return torch.stack(columns, dim=1)
