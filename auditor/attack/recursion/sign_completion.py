"""What too few equations leave open of values that are nowhere negative, decided by their signs."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from auditor.solvers.line_search import halved

_STEPS = 60
_HALVINGS = 12
# Negative parts that shrink by less than this in a step are settled.
_SETTLED = 1e-3
# Weight of the unmoved solution against the signs, and what tells a direction that no closed unit holds.
_RIDGE, _HELD = 1e-12, 1e-8


@dataclass(frozen=True)
class Completed:
    """Values that fulfil the equations and are not negative.

    Attributes
    ----------
    value
        By position and channel.
    deviation
        Of its error.
    unique
        By channel: whether closed units hold every open direction, so that no other value nearby will do.
    """

    value: Float[Tensor, "position channel"]
    deviation: Float[Tensor, "position channel"]
    unique: Tensor


def complete(
    start: Float[Tensor, "position channel"],
    free: Float[Tensor, "position direction"],
    noise: Float[Tensor, "position channel"],
) -> Completed:
    """Return start + free z with the least negative part, channel by channel.

    A rectifier's outputs are zero at about half of all positions. Where more of them are zero than directions are open,
    the one point with no negative part is the truth (Donoho & Tanner 2005, sparse nonnegative solutions). Newton on the
    squared negative part: once only units that are truly closed are negative, its next step is exact.

    Parameters
    ----------
    start
        A solution of the equations, such as that of least norm.
    free
        Orthonormal directions that no equation holds.
    noise
        Deviation of the start's error.
    """
    value, deviation = start.clone(), noise.clone()
    unique = torch.ones(start.shape[1], dtype=torch.bool)
    for channel in range(start.shape[1]):
        h, n = start[:, channel], noise[:, channel]
        found = _least_negative(h, free, n)
        value[:, channel] = found
        closed = free[found < 4.0 * n]
        values, vectors = torch.linalg.eigh(closed.T @ closed)
        unique[channel] = bool(values[0] > _HELD)
        spread = (free @ vectors).square() / values.clamp(min=_HELD)
        deviation[:, channel] = (n.square() + spread.sum(1) * n.square().mean()).sqrt()
    return Completed(value, deviation, unique)


def _least_negative(h: Tensor, free: Tensor, noise: Tensor) -> Tensor:
    cost = _cost(h)
    for _ in range(_STEPS):
        below = h < 0.0
        rows = free[below]
        gram = rows.T @ rows
        gram.diagonal().add_(_RIDGE)
        factor, failed = torch.linalg.cholesky_ex(gram)
        if int(failed):
            gram.diagonal().add_(1e-6)
            factor = torch.linalg.cholesky(gram)
        step = torch.cholesky_solve((rows.T @ h[below])[:, None], factor)[:, 0]
        moved, less = halved(h, -(free @ step), _cost, cost, _HALVINGS)
        if not less < cost:
            break
        settled = less > (1.0 - _SETTLED) * cost or less < float(noise.square().sum())
        h, cost = moved, less
        if settled:
            break
    return h


def _cost(h: Tensor) -> float:
    return float(h.clamp(max=0.0).square().sum())
