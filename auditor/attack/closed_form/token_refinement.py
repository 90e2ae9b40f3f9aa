"""Tokens moved into spans one by one, while what they read of each other is held from step to step."""

import itertools
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from auditor.records import Clock

# Residuals of all tokens, `(token, equation)`, from coordinates and what tokens read of each other; any precision.
Residuals = Callable[[Tensor, dict[int, Tensor]], Tensor]
Context = Callable[[Tensor], dict[int, Tensor]]
_FIRST, _DAMPING_DOWN, _DAMPING_UP, _LEAST, _MOST = 1e-3, 0.1, 6.0, 1e-13, 1e3
_FAR = 1e-4
# Jacobians in the open directions, in all directions, in each round after restarts, and for each restart.
_STEPS, _POLISH, _STEPS_AGAIN, _RESTART = 40, 24, 12, 8
# Steps that one Jacobian serves: rejected ones with more damping, and good ones again.
_TRIES, _WORTH_AGAIN = 4, 0.5
# What damping grows by, and to at least, after a step that was taken back.
_BACK, _BACK_LEAST = 100.0, 1e-6
_ROUNDS = 6
# Tokens whose cost stands out from the median by this are tried again, from this many others' open parts.
_STANDS_OUT, _STARTS = 4.0, 8
# Share of its squared distance below which a token became better.
_BETTER = 0.7
# Largest distance of a token from its spans, relative: rounding leaves 1e-6 to 5e-4, a wrong token more than 1e-2.
CERTAIN = 1e-3
# Squared distance below which nothing better is to be found, and what some steps have to gain.
_ENOUGH, _GAIN, _PATIENCE = 1e-12, 0.05, 4
# Entries of all slopes that are worked out at a time.
_ENTRIES = 3e7


@dataclass(frozen=True)
class Refinement:
    """Coordinates of the tokens, and how far each is from the spans."""

    coordinates: Float[Tensor, "token coordinate"]
    distance: Float[Tensor, " token"]


def refine(
    residuals: Residuals,
    context: Context,
    start: Float[Tensor, "token coordinate"],
    free: Float[Tensor, "direction coordinate"],
    likely: Callable[[Tensor], Tensor],
    fill: Callable[[Tensor, Tensor], Tensor],
    clock: Clock,
    seed: int,
) -> Refinement:
    """Minimise every token's residual over the open directions, then over all of them.

    Levenberg-Marquardt (Marquardt 1963) for all tokens at once, each with a damping of its own; tokens that stand out
    start again from the smoothest filling and from the open parts of tokens that came out well. Steps are damped in the
    directions that `likely` makes of those given, as long as they are likely.
    """
    search = TokenSearch(residuals, context, clock)
    everything = likely(torch.eye(start.shape[1], dtype=start.dtype))
    open_ = likely(free)
    m = start
    if len(free):
        m, _ = search.moved(m, open_, _STEPS, _FIRST)
    m, cost = search.moved(m, everything, _POLISH, 1e-6)
    for again in range(_ROUNDS if len(free) else 0):
        if clock.left < 0.0 or float(cost.max()) < CERTAIN**2:
            break
        m, better = search.restarted(m, cost, free, open_, fill, seed + again)
        if not better:
            break
        m, _ = search.moved(m, open_, _STEPS_AGAIN, 1e-5)
        m, cost = search.moved(m, everything, _POLISH, 1e-6)
    return Refinement(m, cost.sqrt())


def polish(
    residuals: Residuals, context: Context, m: Tensor, likely: Callable[[Tensor], Tensor], clock: Clock
) -> Refinement:
    """Minimise over all directions from tokens that are nearly right."""
    everything = likely(torch.eye(m.shape[1], dtype=m.dtype))
    m, cost = TokenSearch(residuals, context, clock).moved(m, everything, _POLISH, 1e-8)
    return Refinement(m, cost.sqrt())


def slopes(residuals: Residuals, m: Tensor, held: dict[int, Tensor], basis: Tensor) -> Float[Tensor, "token e d"]:
    """Return the residuals' derivatives along the directions of a basis, in float32, which is all that a step needs."""
    m, basis = m.float(), basis.float()
    held = {n: v.float() for n, v in held.items()}

    def along(direction: Tensor) -> Tensor:
        return torch.func.jvp(lambda x: residuals(x, held), (m,), (direction.expand_as(m),))[1]

    equations = residuals(m, held).shape[1]
    chunk = max(1, int(_ENTRIES / (4 * equations * len(m))))
    with warnings.catch_warnings():
        # PyTorch's own first use of forward derivatives warns of its own torch.jit.script.
        warnings.filterwarnings("ignore", message=".*torch.jit.script.*")
        return torch.cat([torch.func.vmap(along)(part) for part in torch.split(basis, chunk)]).permute(1, 2, 0)


class TokenSearch:
    """Levenberg-Marquardt steps of all tokens side by side, each with what it reads of the others held."""

    def __init__(self, residuals: Residuals, context: Context, clock: Clock) -> None:
        self._residuals, self._context, self._clock = residuals, context, clock

    def cost(self, m: Tensor) -> Tensor:
        """Return every token's squared residual where it reads of the others what they are."""
        return self._residuals(m, self._context(m)).square().sum(1)

    def moved(self, m: Tensor, basis: Tensor, steps: int, damping: float) -> tuple[Tensor, Tensor]:
        """Return the tokens after some steps, what they read of each other being renewed, and the cost of each.

        A step that is good for every token may be bad for all of them, where they read each other: it is taken back,
        and the next one is damped more.
        """
        mu = torch.full((len(m),), damping, dtype=m.dtype)
        cost = self.cost(m)
        costs = [float(cost.sum())]
        held = self._context(m)
        system = self._system(m, held, basis)
        for _ in range(steps):
            if self._clock.left < 0.0 or float(cost.max()) < _ENOUGH:
                break
            moved, less = self._stepped(m, held, basis, mu, system)
            now = self.cost(moved)
            costs.append(min(costs[-1], float(now.sum())))
            if float(now.sum()) < float(cost.sum()):
                m, mu, cost, held = moved, less, now, self._context(moved)
                system = self._system(m, held, basis)
            else:
                mu = (mu * _BACK).clamp(min=_BACK_LEAST, max=_MOST)
            if len(costs) > _PATIENCE and costs[-1] > (1.0 - _GAIN) * costs[-1 - _PATIENCE]:
                break
        return m, cost

    def _system(self, m: Tensor, held: dict[int, Tensor], basis: Tensor) -> tuple[Tensor, Tensor]:
        jacobian = slopes(self._residuals, m, held, basis).to(m)
        return jacobian, jacobian.transpose(1, 2) @ jacobian

    def _stepped(
        self, m: Tensor, held: dict[int, Tensor], basis: Tensor, mu: Tensor, system: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Take the steps that one Jacobian serves, and return the damping for the next."""
        jacobian, gram = system
        unit = torch.eye(len(basis), dtype=m.dtype)
        made = self._residuals(m, held)
        for _ in range(_TRIES):
            cost = made.square().sum(1)
            slope = jacobian.transpose(1, 2) @ made[:, :, None]
            moved = m - torch.linalg.solve(gram + mu[:, None, None] * unit, slope)[:, :, 0] @ basis
            there = self._residuals(moved, held)
            after = there.square().sum(1)
            less = after < cost
            m, made = torch.where(less[:, None], moved, m), torch.where(less[:, None], there, made)
            mu = torch.where(less, (mu * _DAMPING_DOWN).clamp(min=_LEAST), (mu * _DAMPING_UP).clamp(max=_MOST))
            gained = float(torch.where(less, after, cost).sum()) < _WORTH_AGAIN * float(cost.sum())
            if self._clock.left < 0.0 or (not gained and bool(less.double().mean() > 0.5)):
                break
        return m, mu

    def stepped(self, m: Tensor, held: dict[int, Tensor], directions: Tensor, steps: int) -> Tensor:
        """Return the tokens after so many steps from a start that may be far, what they read being held."""
        mu = torch.full((len(m),), _FAR, dtype=m.dtype)
        for _ in range(steps):
            m, mu = self._stepped(m, held, directions, mu, self._system(m, held, directions))
        return m

    def best_of(
        self,
        m: Tensor,
        held: dict[int, Tensor],
        bad: Tensor,
        starts: Iterable[Tensor],
        directions: Tensor,
        steps: int,
    ) -> tuple[Tensor, Float[Tensor, " token"]]:
        """Return the bad tokens where their best start led, and what share of every token's squared distance is left.

        A token that no start makes better stays.
        """
        before = least = self._residuals(m, held).square().sum(1)
        best = m
        for start in starts:
            moved = self.stepped(torch.where(bad[:, None], start, m), held, directions, steps)
            now = self._residuals(moved, held).square().sum(1)
            wins = bad & (now < least)
            best, least = torch.where(wins[:, None], moved, best), torch.where(wins, now, least)
            if self._clock.left < 0.0:
                break
        return best, least / before

    def restarted(
        self,
        m: Tensor,
        cost: Tensor,
        free: Tensor,
        directions: Tensor,
        fill: Callable[[Tensor, Tensor], Tensor],
        seed: int,
    ) -> tuple[Tensor, bool]:
        """Start the tokens that stand out again, and keep the best of each; tell whether any became better."""
        bad = stand_out(cost, CERTAIN**2)
        if not bool(bad.any()) or bool(bad.all()):
            return m, False
        filled = fill(m, bad)
        generator = torch.Generator().manual_seed(seed)
        starts = itertools.chain([filled], (with_others_open(m, free, ~bad, generator) for _ in range(_STARTS)))
        best, left = self.best_of(m, self._context(filled), bad, starts, directions, _RESTART)
        return best, bool((left < _BETTER).any())


def stand_out(cost: Float[Tensor, " token"], least: float) -> Bool[Tensor, " token"]:
    """Tell which tokens' squared distances stand out from the median, and are no less than `least`."""
    return cost > (_STANDS_OUT * cost.median()).clamp(min=least)


def with_others_open(
    m: Float[Tensor, "token coordinate"], free: Tensor, good: Bool[Tensor, " token"], generator: torch.Generator
) -> Float[Tensor, "token coordinate"]:
    """Return the tokens with the open parts of good ones, drawn at random, in place of their own."""
    which = good.nonzero().flatten()
    donors = which[torch.randint(len(which), (len(m),), generator=generator)]
    return m - (m @ free.T) @ free + (m[donors] @ free.T) @ free
