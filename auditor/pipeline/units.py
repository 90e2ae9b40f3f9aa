"""Units of work: one attack on one update with one seed; planned by the work of a step, then run."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

import torch

from auditor.attack import Attack, Preset
from auditor.pipeline.context import Context, Observed, unit_seed, view_of
from auditor.pipeline.credibility import CHECKPOINTS, budget_curve
from auditor.pipeline.deep.memory import available_bytes, not_held, too_large_to_match, too_large_to_search
from auditor.pipeline.deep.planning import (
    MARGIN,
    DeepAttack,
    affordable,
    fitting,
    least_work,
    seconds_for_deep,
    share_out,
)
from auditor.pipeline.progress import Display
from auditor.pipeline.references import References
from auditor.pipeline.run_attack import obstacle, run_attack
from auditor.pipeline.workers import Task, make_ahead
from auditor.records import Budget, Ceiling, Clock, Outcome, Reconstruction, Skipped, View, counting, record, work_of
from auditor.results.attempts import Point

# Probes that an attacker with a reference frame is tried on: each costs twice, for its null control.
_REFERENCE_PROBES = 2
# Floating-point operations of a forward pass beyond which a step is not tried out: it takes minutes.
MOST_TO_TRY = 1e11
# Measured: 2.8 for mvit_v2_s at 16x224x224, 3.1 for r3d_18 at 16x112x112, 3.5 at 8x64x64.
_STEP_IN_GRADIENTS = 3.0
_OWN_FRAMES = References()
# No pace is below this.
_LEAST_PACE = 1e-4


@record
class Unit:
    """An attack on the update of probe `update`, with what is known of (and scored against) probe `truth`.

    The two differ in a null control.
    """

    attack: Attack
    truth: int
    update: int
    repetition: int

    @property
    def is_null(self) -> bool:
        """Whether update and truth belong to different clips."""
        return self.truth != self.update


@record
class Planned:
    """A unit with its budget, and the work that is expected of it where that decides whether it still begins."""

    unit: Unit
    budget: Budget
    work: float = 0.0


@record
class Ran:
    """A unit and what came of it; `curve` is the score along the way, where the preset keeps it."""

    unit: Unit
    result: Reconstruction | Skipped
    curve: tuple[Point, ...] = ()


class Runner(Protocol):
    """Runs a unit, as `run_one` does."""

    def __call__(
        self,
        context: Context,
        observed: Sequence[Observed],
        planned: Planned,
        *,
        display: Display,
        references: References,
        ceiling: Ceiling,
    ) -> Ran: ...


def uses_reference(attack: Attack) -> bool:
    """Tell whether the attacker holds frames of the scene (R1, Rk)."""
    return attack.frames_of_scene > 0


def unit_view(context: Context, observed: Sequence[Observed], unit: Unit, references: References = _OWN_FRAMES) -> View:
    """Return the attacker's view: the update of one clip, and for R1 and Rk frames of the scene of `truth`."""
    held = references.held(unit.attack, observed[unit.truth].probe)
    return view_of(context, observed[unit.update], None if held is None else held.to(context.device))


def plan(preset: Preset, observed: Sequence[Observed]) -> tuple[Unit, ...]:
    """Return every unit of the preset, most telling first.

    Two clips by every attack come first (each is the other's null control), then the reference attack with its null,
    then the canary and the other clips, then more seeds. The null control of an attack without a reference costs
    nothing: it is the reconstruction of one clip scored against another.
    """
    real = [i for i, o in enumerate(observed) if o.probe.kind != "canary"]
    canaries = [i for i, o in enumerate(observed) if o.probe.kind == "canary"]
    closed = [a for a in preset.attacks if a.closed_form]
    blind = [a for a in preset.attacks if not a.closed_form and not uses_reference(a)]
    informed = [a for a in preset.attacks if uses_reference(a)]
    units = [Unit(attack=a, truth=i, update=i, repetition=0) for a in closed for i in (*real, *canaries)]
    for repetition in range(preset.seeds):
        units += [Unit(attack=a, truth=i, update=i, repetition=repetition) for i in real[:2] for a in blind]
        units += _informed(informed, real[:1], observed, repetition)
        units += [Unit(attack=a, truth=i, update=i, repetition=repetition) for i in canaries for a in blind]
        units += [Unit(attack=a, truth=i, update=i, repetition=repetition) for i in real[2:] for a in blind]
        units += _informed(informed, real[1:_REFERENCE_PROBES], observed, repetition)
    return tuple(units)


def _informed(
    attacks: Sequence[Attack], probes: Sequence[int], observed: Sequence[Observed], repetition: int
) -> Iterator[Unit]:
    for attack in attacks:
        for i in probes:
            yield Unit(attack=attack, truth=i, update=i, repetition=repetition)
            if len(observed) > 1:
                yield Unit(attack=attack, truth=i, update=_foreign(observed, i), repetition=repetition)


def _foreign(observed: Sequence[Observed], truth: int) -> int:
    """A canary is of another scene than any clip; without one, the next probe."""
    canaries = [i for i, o in enumerate(observed) if o.probe.kind == "canary" and i != truth]
    return canaries[0] if canaries else (truth + 1) % len(observed)


@counting()
def run_units(
    context: Context,
    observed: Sequence[Observed],
    preset: Preset,
    clock: Clock,
    pace: float,
    scoring: float,
    display: Display,
    references: References = _OWN_FRAMES,
    deep: Sequence[DeepAttack | Skipped] = (),
    ceiling: Ceiling | None = None,
    runner: Runner | None = None,
) -> tuple[tuple[Ran, ...], tuple[Skipped, ...]]:
    """Run what applies and fits into the work left on `clock`; say of everything else why it did not run.

    Closed forms come first, then deep attacks, so that minutes of algebra are not left over from searches that cannot
    fit; searches share what is left. Units whose budgets depend on no other's result are made side by side where
    somebody can.

    Parameters
    ----------
    pace
        Reference seconds of one step of gradient matching.
    scoring
        Reference seconds that every unit costs afterwards, when it is scored.
    references
        What attackers hold of the scene.
    deep
        What the preset's deep attacks compute, or why they do not run; none of them is planned in any other way.
    ceiling
        By the wall clock: units that would end later are left out.
    runner
        What runs one unit; `run_one` unless given.
    """
    ceiling = ceiling or Ceiling()
    planned = [one for one in deep if isinstance(one, DeepAttack)]
    apart = {one.attack.name if isinstance(one, DeepAttack) else one.what for one in deep}
    others = replace(preset, attacks=tuple(a for a in preset.attacks if a.name not in apart))
    units, skipped = _applicable(context, observed, plan(others, observed), references)
    skipped += [one for one in deep if isinstance(one, Skipped)]
    closed = [u for u in units if u.attack.closed_form]
    searches = [u for u in units if not u.attack.closed_form]
    one_of_each = {u.attack.name: u for u in reversed(searches)}
    memory = available_bytes(context.device)
    too_large_of = {
        name: too_large_to_search(u.attack, context, unit_view(context, observed, u, references), memory)
        for name, u in one_of_each.items()
    }
    skipped += [not_held(u.attack.name, why) for u in searches if (why := too_large_of[u.attack.name]) is not None]
    searches = [u for u in searches if too_large_of[u.attack.name] is None]
    run = partial(
        _run_all, context, observed, display=display, references=references, ceiling=ceiling, runner=runner or run_one
    )
    briefly = Budget(seconds=max(clock.left, 1.0), steps=1)
    ran = run([Planned(unit=u, budget=briefly) for u in closed], split=False)
    clock = Clock(clock.left - scoring * len(ran))
    share = seconds_for_deep(clock.left, least_work(_attacks(searches), pace, scoring), len(searches))
    limit = Clock(share)
    for place, one in enumerate(planned):
        made, left_out = _run_deep(observed, one, ran, limit.left / (len(planned) - place), scoring, run)
        ran += made
        skipped += left_out
        clock = Clock(clock.left - scoring * len(made))
        searches, covered = _not_covered(searches, one.attack, made)
        skipped += covered
    count = affordable(_attacks(searches), clock.left, pace, scoring)
    why = f"a step is {pace:.2g} s of work, and {max(0.0, clock.left):.0f} s were left for {len(searches)} runs"
    due, waiting = searches[:count], searches[count:]
    scored, most = 0, math.inf
    while due:
        # Those that begin later have what the first had: a few would else take all that these left.
        share = most = min(most, (clock.left - scoring * (scored + len(due))) / len(due))
        if share <= 0.0:
            skipped += [_no_time(unit.attack, "the work was used up by earlier units") for unit in due]
            break
        kept = CHECKPOINTS if preset.diagnose else 0
        budget = Budget(seconds=share, steps=preset.steps, checkpoints=kept)
        work = min(share, MARGIN * preset.steps * pace)
        ran += run([Planned(unit=unit, budget=budget, work=work) for unit in due])
        scored += len(due)
        # Searches that ended before their share leave it to those that there was none for.
        more = fitting(_attacks(waiting), clock.left - scoring * scored, pace, scoring)
        due, waiting = waiting[:more], waiting[more:]
    skipped += [_no_time(unit.attack, why) for unit in waiting]
    skipped += [r.result for r in ran if isinstance(r.result, Skipped)]
    return tuple(r for r in ran if isinstance(r.result, Reconstruction)), _distinct(skipped)


def _attacks(units: Sequence[Unit]) -> list[Attack]:
    return [unit.attack for unit in units]


def _run_deep(
    observed: Sequence[Observed],
    deep: DeepAttack,
    ran: Sequence[Ran],
    seconds: float,
    scoring: float,
    run: Callable[[Sequence[Planned]], list[Ran]],
) -> tuple[list[Ran], list[Skipped]]:
    """Run a deep attack on as many clips as the seconds hold, unless closed forms have solved them all."""
    attack, clock = deep.attack, Clock(seconds)
    solved = {r.unit.update: r.unit.attack.name for r in ran if _solves(r.result)}
    real, canaries = _clips_for(attack, observed)
    if all(u.update in solved for u in real):
        by = ", ".join(sorted(set(solved.values())))
        return [], [_not_needed(attack, f"{by} solved every update")]
    wanted = len(real) if len(real) > 1 or not canaries else 2
    share = share_out(deep, wanted, clock.left - scoring * wanted)
    # Steps were planned: the budget ends a run only where they are far more work, and others would lose theirs.
    each = Budget(seconds=max(clock.left / max(1, share.clips), 1.0), steps=share.steps)
    certain = real[: share.clips]
    made = run([Planned(unit=unit, budget=each, work=share.seconds) for unit in certain])
    for unit in (*real[len(certain) :], *canaries) if share.clips else ():
        count = sum(isinstance(r.result, Reconstruction) for r in made)
        if unit in canaries and count != 1:
            break  # a canary is there for the null control of one clip
        if count >= share.clips and clock.left - scoring < share.seconds:
            break
        each = Budget(seconds=max(clock.left / max(1, share.clips - count), 1.0), steps=share.steps)
        made += run([Planned(unit=unit, budget=each, work=share.seconds)])
    need = f"a run is about {deep.first:.0f} s of algebra before its search, {deep.seconds:.0f} s in all"
    why = f"{need}, and {max(0.0, seconds):.0f} s were left for {len(real)} clips"
    tried = {r.unit.update for r in made}
    return made, [_no_time(attack, why) for u in real if u.update not in tried]


def _clips_for(attack: Attack, observed: Sequence[Observed]) -> tuple[list[Unit], list[Unit]]:
    """Return a unit for every clip, and for every canary."""
    units = [Unit(attack=attack, truth=i, update=i, repetition=0) for i in range(len(observed))]
    canaries = [u for u in units if observed[u.truth].probe.kind == "canary"]
    return [u for u in units if u not in canaries], canaries


def _solves(result: Reconstruction | Skipped) -> bool:
    return isinstance(result, Reconstruction) and result.outcome is Outcome.SOLVED


def _not_covered(searches: Sequence[Unit], attack: Attack, made: Sequence[Ran]) -> tuple[list[Unit], list[Skipped]]:
    """Return the searches that still tell something beside what a deep attack reconstructed, and the others."""
    done = {r.unit.update for r in made if isinstance(r.result, Reconstruction)}
    covered = [u for u in searches if u.attack.name == attack.succeeds and u.update in done]
    why = f"{attack.name} went further down on the same update"
    return [u for u in searches if u not in covered], [_not_needed(u.attack, why) for u in covered]


def _applicable(
    context: Context, observed: Sequence[Observed], units: Sequence[Unit], references: References
) -> tuple[list[Unit], list[Skipped]]:
    kept, skipped = [], []
    for unit in units:
        reason = references.obstacle(unit.attack, observed[unit.truth].probe)
        reason = reason or obstacle(unit.attack, unit_view(context, observed, unit, references))
        if reason is None:
            kept.append(unit)
        else:
            skipped.append(Skipped(stage="invert", what=unit.attack.name, because="not-applicable", reason=reason))
    return kept, skipped


def seconds_per_step(context: Context, observed: Observed) -> float:
    """Count the work of one step of gradient matching (forward, double backward), in reference seconds.

    Of a network whose step takes minutes, or that memory does not hold, one gradient is counted: a step takes
    `_STEP_IN_GRADIENTS` times as long.
    """
    step = context.target.step
    labels = context.client.targets(observed.labels)
    large = step is not None and step.operations > MOST_TO_TRY
    if large or too_large_to_match(context, available_bytes(context.device)) is not None:
        return _STEP_IN_GRADIENTS * work_of(lambda: context.client(observed.clips, labels))
    x = observed.clips.clone().requires_grad_(True)

    def matching() -> None:
        gradients = context.client(x, labels, create_graph=True)
        total = torch.stack([g.square().sum() for g in gradients.values()]).sum()
        if total.requires_grad:
            torch.autograd.grad(total, x, allow_unused=True)

    return max(work_of(matching), _LEAST_PACE)


def _run_all(
    context: Context,
    observed: Sequence[Observed],
    planned: Sequence[Planned],
    *,
    display: Display,
    references: References,
    ceiling: Ceiling,
    runner: Runner,
    split: bool = True,
) -> list[Ran]:
    run = partial(runner, context, observed, display=display, references=references)
    ahead = [Task(run=partial(run, one, ceiling=Ceiling()), seconds=one.work) for one in planned]
    make_ahead(ahead, display, ceiling, split=split)
    return [run(one, ceiling=ceiling) for one in planned]


def run_one(
    context: Context,
    observed: Sequence[Observed],
    planned: Planned,
    *,
    display: Display,
    references: References,
    ceiling: Ceiling,
) -> Ran:
    """Run a unit within its budget, unless it is too late for it."""
    unit, budget = planned.unit, planned.budget

    def late() -> Skipped | None:
        # Closed forms take moments, and decide more than anything: they run in any case, but for those that were
        # planned.
        if unit.attack.closed_form and not planned.work:
            return None
        return ceiling.too_late("invert", unit.attack.name, planned.work)

    probe = observed[unit.truth].probe.name
    title = f"{unit.attack.title} · {'null for ' if unit.is_null else ''}{probe}"
    seed = unit_seed(context.seed, unit.attack.name, probe, str(unit.repetition))
    view = unit_view(context, observed, unit, references)
    expected = 0.0 if unit.attack.closed_form else budget.seconds
    result = run_attack(unit.attack, view, budget, seed, display, title, expected, late)
    if isinstance(result, Skipped):
        return Ran(unit=unit, result=result)
    # Scored and let go at once: the clips of a whole audit would fill the memory.
    curve = budget_curve(observed[unit.truth], result)
    return Ran(unit=unit, result=replace(result, checkpoints=()), curve=curve)


def _no_time(attack: Attack, why: str) -> Skipped:
    return Skipped(stage="invert", what=attack.name, because="out-of-budget", reason=why, remedy="give more --max-time")


def _not_needed(attack: Attack, why: str) -> Skipped:
    return Skipped(stage="invert", what=attack.name, because="not-applicable", reason=why)


def _distinct(skipped: Sequence[Skipped]) -> tuple[Skipped, ...]:
    """Keep one of several that say the same of the same attack, with how often."""
    groups: dict[tuple[str, str, str], list[Skipped]] = {}
    for s in skipped:
        groups.setdefault((s.what, s.because, s.reason), []).append(s)
    return tuple(
        g[0] if len(g) == 1 else replace(g[0], reason=f"{g[0].reason} ({len(g)} runs)") for g in groups.values()
    )
