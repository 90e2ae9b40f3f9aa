"""How attacks divide work: minutes of algebra by what they compute, on as many clips as it allows; searches alike."""

from collections.abc import Sequence

from auditor.attack import LEAST_STEPS, Attack, AttackCost, Preset
from auditor.exposure import determinacy
from auditor.pipeline.context import Context, Observed, view_of
from auditor.pipeline.run_attack import obstacle
from auditor.records import Skipped, decomposition_seconds, record, work_of
from auditor.solvers.descent import held

# Clips that are attacked even if searches then end sooner: each is the other's null control.
_LEAST_CLIPS = 2
# Share of the attacks' work, where other searches would fit as well.
_SHARE = 0.75
# What a search computes besides its steps: one planned to the last step would often not fit.
MARGIN = 1.25
# Feature inversion goes back through the net once, gradient matching twice: its step takes a third to a half as long.
_CHEAPEST = 0.35


@record
class DeepAttack:
    """An attack with what a run computes, in reference seconds.

    Attributes
    ----------
    first, step
        Seconds before the search, and of one step of it.
    steps
        Of the search, if the budget allows; 0 where there is none.
    """

    attack: Attack
    work: AttackCost
    first: float
    step: float
    steps: int

    @property
    def seconds(self) -> float:
        """Reference seconds of a whole run."""
        return self.first + self.steps * self.step


@record
class Share:
    """How many clips a deep attack runs on, with how many steps each, and the reference seconds planned for one."""

    clips: int
    steps: int
    seconds: float


def deep_attacks(context: Context, observed: Sequence[Observed], preset: Preset) -> tuple[DeepAttack | Skipped, ...]:
    """Return the preset's attacks that are planned by what they compute, or why one of them does not run."""
    view = view_of(context, observed[0])
    shapes = {name: tuple(value.shape) for name, value in context.target.parameters.items()}
    layers = determinacy(context.target.layers, shapes, context.protocol.batch)
    known = [(attack, attack.work(view, layers)) for attack in preset.attacks]
    planned = [(attack, work) for attack, work in known if work is not None]
    why = {attack.name: obstacle(attack, view) or attack.needless(view) for attack, _ in planned}
    if not any(reason is None for reason in why.values()):
        return tuple(_needless(attack, why[attack.name] or "") for attack, _ in planned)
    gradient = _seconds_per_gradient(context, observed[0])
    return tuple(
        DeepAttack(
            attack=attack,
            work=work,
            first=decomposition_seconds(work.multiplications) + work.gradients * gradient,
            step=work.step * gradient,
            steps=min(work.steps, preset.steps),
        )
        if why[attack.name] is None
        else _needless(attack, why[attack.name] or "")
        for attack, work in planned
    )


def planned_seconds(deep: Sequence[DeepAttack | Skipped], clips: int) -> float:
    """Return the reference seconds that whole runs of all of them on so many clips take."""
    return clips * sum(one.seconds for one in deep if isinstance(one, DeepAttack))


def seconds_for_deep(left: float, search: float, searches: int) -> float:
    """Return what of the attacks' work deep ones may use, where one search takes `search` seconds at least."""
    return _SHARE * left if searches and search <= (1.0 - _SHARE) * left else left


def share_out(attack: DeepAttack, clips: int, seconds: float) -> Share:
    """Divide seconds among clips: whole runs on as many as fit, else shorter searches on two, else on one, else none.

    What comes before the search is never cut: a clip for which the seconds do not hold that is left out.
    """
    count = min(clips, max(_LEAST_CLIPS, int(seconds / max(attack.seconds, 1e-9))))
    count = min(count, int(seconds / max(attack.first, 1e-9)))
    if count <= 0:
        return Share(clips=0, steps=0, seconds=0.0)
    steps = attack.steps
    if attack.step > 0.0:
        steps = max(1, min(steps, held(seconds / count - attack.first, attack.step)))
    return Share(clips=count, steps=max(1, steps), seconds=attack.first + steps * attack.step)


def affordable(searches: Sequence[Attack], left: float, pace: float, scoring: float) -> int:
    """Count the searches, first ones first, for which the work left holds the least number of steps.

    Parameters
    ----------
    left, pace, scoring
        Reference seconds: of work left, of a step of gradient matching, and what each costs when it is scored.
    """
    count = fitting(searches, left, pace, scoring)
    if not count and left > pace * LEAST_STEPS * _CHEAPEST + scoring:
        return min(1, len(searches))  # it counts its own step
    return count


def fitting(searches: Sequence[Attack], left: float, pace: float, scoring: float) -> int:
    """Count the first searches of which each has the work that it needs where all share alike."""
    count = 0
    while count < len(searches) and (count + 1) * least_work(searches[: count + 1], pace, scoring) <= left:
        count += 1
    return count


def least_work(searches: Sequence[Attack], pace: float, scoring: float) -> float:
    """Return the reference seconds that each of some searches takes at least, where all share alike."""
    steps = max((attack.least_steps for attack in searches), default=LEAST_STEPS)
    return pace * steps * MARGIN + scoring


def _needless(attack: Attack, reason: str) -> Skipped:
    return Skipped(stage="invert", what=attack.name, because="not-applicable", reason=reason)


def _seconds_per_gradient(context: Context, observed: Observed) -> float:
    return work_of(lambda: context.client(observed.clips, context.client.targets(observed.labels)))
