"""Backtracking along a direction, one evaluation of the loop at a time."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

# Armijo's condition: a step is taken back unless it lowers the loss by this share of what the slope promised.
_ENOUGH = 1e-4
# Steps this many times halved are numerically none.
_HALVINGS = 12
# No entry moves by more than this in one step: beyond any pixel's range, three standard deviations of a mode.
_FURTHEST = 3.0


class Direction(Protocol):
    """Where to go from a point, from the gradient there and what was learned on the way."""

    def direction(self, variable: Tensor, gradient: Tensor, progress: float) -> Tensor:
        """Return a step whose natural length is 1."""
        ...

    def learn(self, moved: Tensor, changed: Tensor, halvings: int) -> None:
        """Take in a step that was accepted, how the gradient changed over it, and how often it was halved."""
        ...

    def forget(self) -> None:
        """Give up what was learned: it led nowhere."""
        ...


def halved(
    start: Tensor, step: Tensor, cost: Callable[[Tensor], float], least: float, most: int
) -> tuple[Tensor, float]:
    """Return where the longest step of 1, 1/2, 1/4, ... leads that costs less than `least`, and what it costs there.

    After `most` trials it is the last one, whatever it costs.
    """
    for halvings in range(most):
        point = start + 0.5**halvings * step
        here = cost(point)
        if here < least:
            break
    return point, here


class Backtracking:
    """Try the whole step first; while it does not lower the loss enough, go back and try half of it.

    Every trial is a step of the loop, which evaluates it and keeps it if it is the best so far.
    """

    def __init__(self, variable: Tensor, direction: Direction, rate: float) -> None:
        self._variable, self._rule, self._rate = variable, direction, rate
        self._accepted: tuple[Tensor, float, Tensor] | None = None
        self._direction, self._halvings = torch.zeros_like(variable), 0

    def step(self, loss: float, gradient: Tensor, progress: float, size: float) -> None:
        """Accept the point or halve the step that led to it."""
        here = self._variable.detach().clone()
        if self._accepted is not None:
            before, previous, slope = self._accepted
            moved = here - before
            if loss > previous + _ENOUGH * float((slope * moved).sum()) and self._halvings < _HALVINGS:
                self._halvings += 1
                self._go(before)
                return
            if loss > previous:
                # Twelve halvings and still uphill: the direction is worthless; start afresh from the better point.
                self._rule.forget()
                here, loss, gradient = before, previous, slope
            else:
                self._rule.learn(moved, gradient - slope, self._halvings)
        self._accepted, self._halvings = (here, loss, gradient.detach().clone()), 0
        direction = self._rule.direction(here, gradient, progress)
        if float((direction * gradient).sum()) >= 0.0 or not bool(torch.isfinite(direction).all()):
            self._rule.forget()
            direction = -gradient * (self._rate / gradient.abs().amax().clamp(min=1e-30))
        furthest = float(direction.abs().amax())
        self._direction = direction * min(1.0, _FURTHEST / max(furthest, 1e-30))
        self._go(here)

    def _go(self, start: Tensor) -> None:
        with torch.no_grad():
            self._variable.copy_(start + 0.5**self._halvings * self._direction)
