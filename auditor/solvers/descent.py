"""Descent of an objective of clips: one step rule, one schedule, the best iterate kept with its own objective."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from auditor.records import Budget, Checkpoint, Clips, Outcome, Trace, charged, work_of
from auditor.solvers.parametrisation import Parametrisation, Pixels
from auditor.solvers.schedule import Schedule
from auditor.solvers.step_rule import Problem, SoftSign, StepRule

_TRACE_POINTS = 60
# Reference seconds of what every step does besides the objective: the rule, the checks, the record.
_AROUND = 4e-4
# Steps that no budget in use allows.
_MOST_STEPS = 10**9
# A plateau: the second half of the run lowered the objective by less than a fifth, or moved the clip less than a tenth
# as far as the first half did. The shrinking steps alone would leave a fifth: the cosine's second half holds 18%.
_STILL_FALLING = 0.8
_SETTLED = 0.1

Objective = Callable[[Clips, float], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Run:
    """One descent: the best iterate paired with its own objective, and its course.

    `variable` is what stood for the best iterate: where another descent with the same parametrisation can go on.
    """

    clips: Clips
    objective: float
    variable: Tensor
    trace: tuple[Trace, ...]
    steps: int
    seconds: float
    outcome: Outcome
    checkpoints: tuple[Checkpoint, ...] = ()


def descend(
    objective: Objective,
    priors: Callable[[Clips], Tensor],
    start: Clips,
    schedule: Schedule,
    budget: Budget,
    least_steps: int,
    parametrisation: Parametrisation | None = None,
    warm: Tensor | None = None,
    pace: float | None = None,
    rule: StepRule | None = None,
) -> Run | float:
    """Minimise slope(x) + prior_weight * priors(x) step by step; keep the x of lowest score.

    The number of steps is fixed before the descent proper, by the work that one of them is: the schedule, and with it
    the result, does not depend on the machine.

    Parameters
    ----------
    objective
        Called with clips and progress, a share in [0, 1): returns what is descended and the score that the best iterate
        is kept by. The score must not depend on progress; the slope may (surrogate gradient).
    least_steps
        Fewer than this would be pretence: the reference seconds of a step are returned instead.
    parametrisation
        What moves; pixels in the box [0, 1] unless given.
    warm
        The variable of an earlier run to go on from, in place of `start`.
    pace
        Reference seconds of one evaluation, if they were counted; then `budget.steps` are made.
    rule
        How to move; Adam on soft-signed gradients unless given. A rule whose step costs n evaluations makes an nth of
        `budget.steps`.

    Returns
    -------
    A `Run`, or the reference seconds of a step when the budget does not hold `least_steps` of them.
    """
    rule = rule or SoftSign()
    variables = (parametrisation or Pixels()).bind(start)
    z = (variables.of(start) if warm is None else warm.clone()).requires_grad_(True)
    if pace is None:
        pace = measure(objective, priors, start, parametrisation)
        steps = min(budget.steps, held(budget.seconds, pace))
    else:
        steps = budget.steps
    if steps < least_steps:
        return pace
    steps = max(1, steps // rule.cost)
    mover = rule.bind(z, Problem(rate=schedule.rate))
    best, best_objective, kept = start.detach().clone(), math.inf, z.detach().clone()
    first = halfway = best
    trace: list[Trace] = []
    every = max(1, steps // _TRACE_POINTS)
    kept_clips, due = [], _checkpoint_steps(steps, budget.checkpoints)
    taken, outcome, each = 0, None, pace * rule.cost
    with charged(steps * each):
        for step in range(steps):
            progress = step / steps
            weight = schedule.prior_weight(progress)
            x = variables.clips(z, progress)
            matched, score = objective(x, progress)
            loss = matched + weight * priors(x)
            (gradient,) = torch.autograd.grad(loss, z)
            value, height, finite = _read(score, loss, gradient)
            if not math.isfinite(value) or not finite:
                outcome = Outcome.DIVERGED
                break
            taken = step + 1
            if step == steps // 2:
                halfway = best
            if value < best_objective:
                best, best_objective, kept = x.detach().clone(), value, z.detach().clone()
            if taken in due:
                kept_clips.append(checkpoint(taken, taken * each, best_objective, best, x))
            if step % every == 0 or step == steps - 1:
                trace.append(Trace(step=step, seconds=taken * each, objective=value))
                budget.progress(progress)
            mover.step(height, gradient, progress, schedule.step_size(progress))
            variables.confine(z)
    return Run(
        clips=best.clamp(0.0, 1.0),
        objective=best_objective,
        variable=kept,
        trace=tuple(trace),
        steps=taken,
        seconds=taken * each,
        outcome=outcome or plateau(trace, moved(best, halfway), moved(halfway, first)),
        checkpoints=tuple(kept_clips),
    )


def _read(score: Tensor, loss: Tensor, gradient: Tensor) -> tuple[float, float, bool]:
    """Return two numbers, and whether a gradient is finite: a GPU is waited for once a step."""
    finite = torch.isfinite(gradient).all()
    value, height, sound = torch.stack([score.detach(), loss.detach().to(score), finite.to(score)]).tolist()
    return value, height, bool(sound)


def _checkpoint_steps(steps: int, count: int) -> frozenset[int]:
    """Numbers of steps, evenly spread, the last one included."""
    return frozenset(max(1, round(steps * (k + 1) / count)) for k in range(count))


def checkpoint(step: int, seconds: float, objective: float, best: Clips, current: Clips) -> Checkpoint:
    """Return the record of a moment: the best clips so far and those of now, in half precision."""
    # Half precision costs half the memory and at most 3e-4 of a pixel: 70 dB.
    clips, now = (c.detach().clamp(0.0, 1.0).half().cpu() for c in (best, current))
    return Checkpoint(step=step, seconds=seconds, objective=objective, clips=clips, current=now)


def alone(distance: Callable[[Clips], Tensor]) -> Objective:
    """Return the objective that descends one distance and keeps the clips that are nearest by it."""

    def objective(clips: Clips, progress: float) -> tuple[Tensor, Tensor]:
        value = distance(clips)
        return value, value.detach()

    return objective


def measure(
    objective: Objective,
    priors: Callable[[Clips], Tensor],
    start: Clips,
    parametrisation: Parametrisation | None = None,
) -> float:
    """Return the work of one step in reference seconds."""
    variables = (parametrisation or Pixels()).bind(start)
    variable = variables.of(start).requires_grad_(True)

    def step() -> None:
        x = variables.clips(variable, 0.0)
        torch.autograd.grad(objective(x, 0.0)[0] + priors(x), variable)

    return work_of(step) + _AROUND


def held(seconds: float, each: float) -> int:
    """Return how many steps of `each` reference seconds a budget holds, in two digits.

    Work that was spent before may differ by rounding, and with it the seconds that are left: the number of steps must
    not.

    >>> held(13.77, 0.01), held(0.875, 0.01), held(-1.0, 0.01)
    (1300, 87, 0)
    """
    count = int(max(0.0, seconds) / each) if seconds < math.inf else _MOST_STEPS
    unit = 10 ** max(0, len(str(count)) - 2)
    return count // unit * unit


def moved(a: Clips, b: Clips) -> float:
    """Return the root mean square of the difference."""
    return float((a - b).square().mean().sqrt())


def plateau(trace: list[Trace], moved_late: float, moved_early: float) -> Outcome:
    """Compare the second half of the run with the first, by the objective and by how far the clip moved."""
    if len(trace) < 4:
        return Outcome.OUT_OF_BUDGET
    if moved_late < _SETTLED * moved_early:
        return Outcome.CONVERGED
    half = min(t.objective for t in trace[: len(trace) // 2])
    whole = min(t.objective for t in trace)
    return Outcome.OUT_OF_BUDGET if whole < _STILL_FALLING * half else Outcome.CONVERGED
