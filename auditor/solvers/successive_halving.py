"""Which configuration of searching suits a net, found by trying several for a while: successive halving of descents."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Self, TypeVar

from torch import Tensor

from auditor.records import Budget, Clips, Trace
from auditor.solvers.descent import Objective, Run, descend, held, measure
from auditor.solvers.parametrisation import Parametrisation
from auditor.solvers.schedule import Schedule
from auditor.solvers.step_rule import StepRule

# A rung of fewer steps than this says more about warm-up than about the configuration.
RUNG = 50
# Share of all steps that the winner's last descent keeps for itself.
_FINAL = 0.5


class Configuration(Protocol):
    """One configuration to descend, as far as the rounds need to know it."""

    @property
    def name(self) -> str: ...
    @property
    def parametrisation(self) -> Parametrisation: ...
    @property
    def schedule(self) -> Schedule: ...
    @property
    def rule(self) -> StepRule: ...

    def onward(self) -> Self:
        """Return the configuration of going on from where this one ended."""
        ...


C = TypeVar("C", bound=Configuration)


@dataclass(frozen=True)
class Rung:
    """One round: how many configurations enter, and how many steps each of them makes."""

    enter: int
    steps: int


def plan(configurations: int, steps: int) -> tuple[Rung, ...]:
    """Share `steps` among rounds after each of which half of the configurations drop out; the last is the winner's.

    Every round but the last costs about the same (Jamieson & Talwalkar 2016, arXiv 1502.07943, algorithm 1); the last
    takes half of all steps. Where steps are too few for rounds of at least `RUNG`, fewer configurations enter, from the
    front of the list, and in the end only the first.

    >>> plan(4, 1000)
    (Rung(enter=4, steps=62), Rung(enter=2, steps=125), Rung(enter=1, steps=502))
    >>> plan(4, 100)
    (Rung(enter=1, steps=100),)
    """
    for entering in range(configurations, 1, -1):
        sizes = _sizes(entering)
        each = round(steps * (1.0 - _FINAL) / len(sizes))
        rungs = tuple(Rung(enter=n, steps=each // n) for n in sizes)
        if rungs[0].steps >= RUNG:
            return (*rungs, Rung(enter=1, steps=steps - sum(r.enter * r.steps for r in rungs)))
    return (Rung(enter=1, steps=steps),)


def _sizes(entering: int) -> list[int]:
    sizes = []
    while entering > 1:
        sizes.append(entering)
        entering = (entering + 1) // 2
    return sizes


@dataclass(frozen=True)
class HalvingResult:
    """The winner's last descent with the course that led to it, and what the rounds cost and said."""

    run: Run
    steps: int
    seconds: float
    notes: tuple[str, ...]


def run_halving(
    objective: Callable[[C], Objective],
    priors: Callable[[Clips], Tensor],
    configurations: Sequence[C],
    start: Clips,
    budget: Budget,
    least_steps: int,
) -> HalvingResult | float:
    """Let configurations compete from one start, scored by the objectives' common score; return the winner's result.

    Returns
    -------
    The winner, or the reference seconds of one step when the budget does not hold `least_steps` of them.
    """
    if len(configurations) == 1:
        run = _run(objective(configurations[0]), priors, configurations[0], start, None, budget, least_steps, None)
        return run if isinstance(run, float) else HalvingResult(run=run, steps=run.steps, seconds=run.seconds, notes=())
    pace = measure(objective(configurations[0]), priors, start, configurations[0].parametrisation)
    steps = min(budget.steps, held(budget.seconds, pace))
    if steps < least_steps:
        return pace
    rungs = plan(len(configurations), steps)
    field: list[tuple[C, Run | None]] = [(configuration, None) for configuration in configurations[: rungs[0].enter]]
    done, notes = 0, []
    for rung in rungs[:-1]:
        made: list[tuple[C, Run]] = []
        for configuration, before in field[: rung.enter]:
            share = _part(budget, rung.steps, done, steps)
            run = _run(objective(configuration), priors, configuration, start, before, share, 1, pace)
            if isinstance(run, float):
                return run
            done += run.steps
            made.append((configuration, run if before is None else _joined(before, run)))
        made.sort(key=lambda pair: pair[1].objective)
        said = ", ".join(f"{configuration.name} {run.objective:.1e}" for configuration, run in made)
        notes.append(f"successive halving after {rung.steps} steps each: {said}")
        field = [*made]
    configuration, before = field[0]
    last = _part(budget, steps - done, done, steps)
    run = _run(objective(configuration), priors, configuration, start, before, last, max(1, least_steps - done), pace)
    if isinstance(run, float):
        return run
    whole = run if before is None else _joined(before, run)
    return HalvingResult(run=whole, steps=done + run.steps, seconds=(done + run.steps) * pace, notes=tuple(notes))


def _run(
    objective: Objective,
    priors: Callable[[Clips], Tensor],
    configuration: Configuration,
    start: Clips,
    before: Run | None,
    budget: Budget,
    least_steps: int,
    pace: float | None,
) -> Run | float:
    on = configuration if before is None else configuration.onward()
    warm = None if before is None else before.variable
    return descend(objective, priors, start, on.schedule, budget, least_steps, on.parametrisation, warm, pace, on.rule)


def _part(budget: Budget, steps: int, done: int, total: int) -> Budget:
    return replace(
        budget,
        steps=steps,
        progress=lambda fraction: budget.progress((done + fraction * steps) / total),
    )


def _joined(before: Run, after: Run) -> Run:
    """One course: the better end of the two, the steps and seconds of both."""
    later = tuple(
        Trace(step=t.step + before.steps, seconds=t.seconds + before.seconds, objective=t.objective)
        for t in after.trace
    )
    best = after if after.objective <= before.objective else before
    reached = tuple(
        replace(c, step=c.step + before.steps, seconds=c.seconds + before.seconds)
        if c.objective <= before.objective
        else replace(
            before.checkpoints[-1], step=c.step + before.steps, seconds=c.seconds + before.seconds, current=c.current
        )
        for c in after.checkpoints
        if before.checkpoints
    )
    return replace(
        after,
        clips=best.clips,
        objective=best.objective,
        variable=best.variable,
        trace=(*before.trace, *later),
        steps=before.steps + after.steps,
        seconds=before.seconds + after.seconds,
        checkpoints=(*before.checkpoints, *reached),
    )
