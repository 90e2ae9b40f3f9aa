"""The course of a scan, gone through with what parts cost in place of the parts."""

import resource
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from time import process_time
from typing import Any

import torch

from auditor.attack import LEAST_STEPS, PRESETS, Attack, GradientMatching
from auditor.enhance import DatLight, Fusion
from auditor.federated import parse_all
from auditor.options import ScanOptions
from auditor.pipeline.context import Context, Observed
from auditor.pipeline.controls import PLANTED
from auditor.pipeline.deep.memory import available_bytes, too_large_to_expose, too_large_to_match
from auditor.pipeline.deep.planning import DeepAttack, deep_attacks
from auditor.pipeline.deep.scaled_down import fitting, seconds_for_smaller
from auditor.pipeline.findings import SECONDS_TO_SCORE, seconds_to_score
from auditor.pipeline.forecast import costs
from auditor.pipeline.forecast.trials import Trial, begin
from auditor.pipeline.layerwise.single_layers import MOST_STEPS as LAYER_STEPS
from auditor.pipeline.layerwise.single_layers import SEARCHES
from auditor.pipeline.layerwise.study_layers import SETS
from auditor.pipeline.planted.own_net_control import not_tried
from auditor.pipeline.progress import Silent
from auditor.pipeline.references import References, references_from
from auditor.pipeline.scan import (
    MOST_FOR_EXPOSURE,
    STEPS_TO_EXPOSE,
    choose_device,
    for_size,
    load_target,
    probes_of,
    seconds_of_work,
)
from auditor.pipeline.threads import threads_for
from auditor.pipeline.time_plan import TimePlan
from auditor.pipeline.training import loss_of, observe_all, trained
from auditor.pipeline.units import MOST_TO_TRY, Planned, Ran, run_one, run_units, seconds_per_step, unit_view
from auditor.pipeline.what_if import MOST_STEPS
from auditor.pipeline.workers import processes_for, shared_by_copies
from auditor.records import Ceiling, Clock, Outcome, Reconstruction, Skipped, record
from auditor.records.work import charge
from auditor.results.encode import document
from auditor.results.forecast import FORECAST, ForecastDocument, PlannedPart
from auditor.score import Lpips

# Closed forms run where a step is less than this: they decide what else is needed. In reference seconds.
_BRIEF = 2.0
# Reference seconds for which attacks are begun. Of a search they tell how fast it goes here; recursions also give up,
# or come to their end, and deep ones need minutes of algebra to do either.
_SEARCHING, _RECURSION, _DEEP = 0.5, 2.0, 20.0
# Smaller clips that are attacked.
_SMALLER = 2
# Variants of the protocol that most networks have: as audited, another batch, the head alone.
_VARIANTS, _RIVALS = 3, 2
# Descents of the malicious server in steps of one clip: an honest batch of four, fishing and its null.
_MALICIOUS = 4 + 2


@record
class _Unit:
    """A unit that was gone through: the attack, its work, and seconds on this machine."""

    attack: Attack
    work: float
    seconds: float


class _Forecasting:
    """Stands for running units: begins every attack once, counts what its units would, and returns what says nothing.

    Parameters
    ----------
    pace
        Reference seconds of a step of gradient matching.
    speed
        Seconds that a reference second takes here.
    deep
        Names of the attacks that are planned by what they compute.
    """

    def __init__(self, pace: float, speed: float, deep: frozenset[str]) -> None:
        self._pace, self._speed, self._deep = pace, speed, deep
        self._begun: dict[str, Trial] = {}
        self.ran: list[_Unit] = []

    def __call__(
        self,
        context: Context,
        observed: Sequence[Observed],
        planned: Planned,
        *,
        display: Any,
        references: References,
        ceiling: Ceiling,
    ) -> Ran:
        attack = planned.unit.attack
        if attack.closed_form and not planned.work and self._pace < _BRIEF:
            return run_one(context, observed, planned, display=display, references=references, ceiling=ceiling)
        trial = self._tried(context, observed, planned, references)
        work = self._work(planned, trial)
        charge(work)
        self.ran.append(_Unit(attack=attack, work=work, seconds=self._seconds(attack, work, trial)))
        if trial is not None and trial.gave_up is not None:
            return Ran(unit=planned.unit, result=trial.gave_up)
        nothing = Reconstruction(
            attack=attack.name,
            clips=torch.zeros(1, 1, 1, 1, 1),
            labels=(0,),
            outcome=Outcome.OUT_OF_BUDGET,
            objective=1.0,
        )
        return Ran(unit=planned.unit, result=nothing)

    @property
    def given_up(self) -> list[Skipped]:
        """Why attacks that apply reconstruct nothing."""
        return [trial.gave_up for trial in self._begun.values() if trial.gave_up is not None]

    def _tried(
        self, context: Context, observed: Sequence[Observed], planned: Planned, references: References
    ) -> Trial | None:
        """Begin an attack at its first unit; None where even its beginning takes long."""
        attack = planned.unit.attack
        if attack.name not in self._deep and (attack.closed_form or self._pace >= _BRIEF):
            return None
        if attack.name not in self._begun:
            most = _DEEP if attack.name in self._deep else _RECURSION if _ends_early(attack) else _SEARCHING
            steps = planned.budget.steps if _ends_early(attack) else min(planned.budget.steps, 2 * LEAST_STEPS)
            view = unit_view(context, observed, planned.unit, references)
            budget = replace(planned.budget, steps=steps)
            self._begun[attack.name] = begin(attack, view, budget, context.seed, most)
        return self._begun[attack.name]

    def _work(self, planned: Planned, trial: Trial | None) -> float:
        attack = planned.unit.attack
        if trial is not None and (trial.gave_up or (trial.ended and _ends_early(attack))):
            return trial.work
        if attack.name in self._deep:
            return planned.work
        return self._pace if attack.closed_form else costs.search(attack, planned.budget, self._pace)

    def _seconds(self, attack: Attack, work: float, trial: Trial | None) -> float:
        """Return the seconds of a unit: what was measured of it, and the rest at the speed that it goes at."""
        if trial is None:
            return self._speed * work
        # What a deep attack does at the end are steps of the network, not the algebra that it begins with.
        speed = self._speed if attack.name in self._deep else trial.seconds / max(trial.work, 1e-9)
        return trial.seconds + speed * (work - trial.work)


def _ends_early(attack: Attack) -> bool:
    """Tell whether an attack often comes to its end before its steps are made: others make them all."""
    return attack.family in ("recursion", "closed-form")


def forecast(options: ScanOptions, jobs: int | None = None) -> dict[str, Any]:
    """Return what a scan with these options would do on this machine, how long it would take, and what it leaves out.

    The model is loaded, its clients compute their updates, a few steps are timed, and every attack is begun.

    Raises
    ------
    UsageError, NotAuditable
        See `errors`.
    """
    parse_all(options.defence)
    device = choose_device(options.device)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads if jobs is None else 1)
    try:
        return document(_Course(options, jobs, device).told())
    finally:
        torch.set_num_threads(threads)


class _Course:
    """A scan as far as it is the same for every budget, and then stage by stage."""

    def __init__(self, options: ScanOptions, jobs: int | None, device: torch.device) -> None:
        self._options, self._display = options, Silent()
        started = process_time()
        target = load_target(options, device)
        self._jobs = jobs or (shared_by_copies(options.device) and processes_for(target)) or 1
        self._preset = preset = for_size(PRESETS[options.preset], target, options, self._display)
        self._references = references_from(options.reference, target.input)
        if self._references.several:
            self._preset = preset = preset.with_several_references()
        self._context = context = trained(target, options, loss_of(options.loss, target))
        self._memory = available_bytes(device)
        probes = probes_of(options, preset, target.input)
        self._parts: list[PlannedPart] = []
        self._left_out: list[Skipped] = []
        with threads_for(target):
            self._observed = observed = observe_all(context, probes)
            self._begun = costs.START_SECONDS + process_time() - started
            self._deep = deep_attacks(context, observed, preset)
            self._pace = seconds_per_step(context, observed[0])
            self._seconds = seconds_of_work(
                options, preset, self._pace, self._deep, len(probes) - 1, self._display, device
            )
            step, held = target.step, too_large_to_match(context, self._memory) is None
            if held and (step is None or step.operations <= MOST_TO_TRY):
                self._step = costs.seconds_of_step(context, observed[0])
                self._speed = self._step / self._pace
            else:
                self._speed = 3.0 * costs.seconds_of_gradient(context, observed[0]) / self._pace
                self._step = self._speed * self._pace
            self._go()

    def told(self) -> ForecastDocument:
        """Return the plan."""
        alone_bytes, each_bytes = self._beside()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        memory = max(peak, costs.resident_bytes(peak) + max(alone_bytes, self._jobs * each_bytes))
        together = sum(p.seconds for p in self._parts if p.side_by_side)
        alone = sum(p.seconds for p in self._parts if not p.side_by_side)
        return ForecastDocument(
            schema=FORECAST,
            model=self._context.target.name,
            preset=self._preset.name,
            jobs=self._jobs,
            seconds=self._begun + costs.REPORT_SECONDS + alone + together / self._jobs,
            work=sum(p.work for p in self._parts),
            step=self._step,
            memory=memory,
            free_memory=self._memory,
            fits=each_bytes * self._jobs <= self._memory
            and not any(s.because == "out-of-memory" for s in self._left_out),
            parts=tuple(self._parts),
            left_out=tuple(self._left_out),
        )

    def _beside(self) -> tuple[int, int]:
        """Return the bytes that exposure or a gradient take beside what is held now, and a step of a search."""
        step, batch = self._context.target.step, self._context.protocol.batch
        if step is None:
            return 0, 0
        exposing = any(p.stage == "expose" for p in self._parts)
        alone = step.jacobian_bytes(batch) if exposing else step.gradient_bytes(batch)
        return alone, step.matching_bytes(batch) if self._searching else 0

    def _go(self) -> None:
        options, preset, observed = self._options, self._preset, self._observed
        times = TimePlan.of(
            preset, what_if=options.what_if, malicious=options.malicious_server, faces=options.faces,
            layers=options.layers,
        )  # fmt: skip
        left, self._searching = self._seconds, not_tried(self._context) is None
        work = costs.controls(preset.attacks, tuple(PLANTED), self._searching, self._pace)
        left -= self._add("controls", "controls", 1, work)
        share = times.exposure * min(left, MOST_FOR_EXPOSURE * preset.seconds)
        left -= self._exposure(share)
        attacking = max(0.0, times.seconds_to_attack(left))
        smaller = seconds_for_smaller(self._context.target, self._deep, attacking)
        used, findings, searches = self._attack(attacking - smaller)
        if smaller:
            used += self._smaller(smaller)
        left -= used
        if preset.diagnose and searches and left > 0.0:
            steps = MOST_STEPS if not searches else max(searches) / max(self._pace, 1e-9) / 2.0
            left -= self._add(
                "diagnosis", "search from the truth", 1, min(times.seconds_to_diagnose(left), steps * self._pace)
            )
        left -= self._enhancement(times.seconds_to_enhance(left, 0.0), findings, len(observed[0].probe.clip))
        if times.what_if and left > 0.0:
            left -= self._variants(times.seconds_for_what_if(left))
        if times.layers and left > 0.0:
            left -= self._layers(times.seconds_for_layers(left, self._seconds))
            if options.layers and options.max_time is None:
                self._add("layers", "layers to keep back", 1, SETS * used)
        if times.malicious and left > 0.0:
            each = self._pace * MOST_STEPS * _MALICIOUS / self._context.protocol.batch
            self._add("what-if", "malicious server", 3, min(0.6 * left, each), side_by_side=True)

    def _add(
        self, stage: str, what: str, runs: int, work: float, seconds: float | None = None, *, side_by_side: bool = False
    ) -> float:
        """Note a part, of `seconds` where these were measured; return its work."""
        seconds = self._speed * work if seconds is None else seconds
        self._parts.append(
            PlannedPart(stage=stage, what=what, runs=runs, work=work, seconds=seconds, side_by_side=side_by_side)
        )
        return work

    def _exposure(self, share: float) -> float:
        too_large = too_large_to_expose(self._context, self._memory)
        if too_large is not None:
            self._left_out.append(too_large)
            return 0.0
        if self._context.target.fidelity.blind or STEPS_TO_EXPOSE * self._pace > share:
            return 0.0
        return self._add("expose", "mode exposure", 1, costs.exposure(self._context, self._observed[0], share))

    def _attack(self, seconds: float) -> tuple[float, int, list[float]]:
        """Go through the attacks; return their work, how many have findings, and the work of descents."""
        lpips = None if self._options.lpips is None else Lpips(self._options.lpips)
        scoring = seconds_to_score(self._observed[0].probe, lpips)
        deep = frozenset(one.attack.name for one in self._deep if isinstance(one, DeepAttack))
        runner, clock = _Forecasting(self._pace, self._speed, deep), Clock(seconds)
        ran, skipped = run_units(
            self._context, self._observed, self._preset, clock, self._pace, scoring, self._display, self._references,
            self._deep, Ceiling(), runner,
        )  # fmt: skip
        self._left_out += [s for s in skipped if s.because != "not-applicable"] + runner.given_up
        self._searching |= any(not t.attack.closed_form and t.attack.name not in deep for t in runner.ran)
        for name in dict.fromkeys(unit.attack.name for unit in runner.ran):
            runs = [unit for unit in runner.ran if unit.attack.name == name]
            work, took = sum(unit.work for unit in runs), sum(unit.seconds for unit in runs)
            self._add("invert", name, len(runs), work, took, side_by_side=True)
        self._add("score", "reconstructions", len(ran), costs.SCORED * scoring * len(ran))
        descents = [t.work / t.attack.restarts for t in runner.ran if isinstance(t.attack, GradientMatching)]
        return clock.used, len({r.unit.attack.name for r in ran}), descents

    def _smaller(self, share: float) -> float:
        """Add deep attacks on smaller clips, where they give up no later than on these; return their work."""
        found = fitting(self._context, self._preset, partial(probes_of, self._options, self._preset), share)
        if isinstance(found, Skipped):
            self._left_out.append(found)
            return 0.0
        names = {one.attack.name for one in self._deep if isinstance(one, DeepAttack)}
        ends = sum(p.work / p.runs for p in self._parts if p.what in names)
        given_up = names.issubset(s.what for s in self._left_out if s.because == "not-applicable")
        work = min(share, _SMALLER * ends) if given_up else share
        return self._add("scaled-down", "smaller clips", _SMALLER, work, side_by_side=True)

    def _enhancement(self, share: float, findings: int, frames: int) -> float:
        shape = tuple(self._observed[0].probe.clip.shape)
        enhancers = (DatLight(2), Fusion(2), DatLight(4), Fusion(4))
        each = {
            f"{e.name} x{e.scale}": 2.0 * (e.seconds_estimate(shape) + frames * SECONDS_TO_SCORE) for e in enhancers
        }
        left, runs = share, dict.fromkeys(each, 0)
        for _ in range(findings):
            for name, work in each.items():
                if work <= left:
                    left, runs[name] = left - work, runs[name] + 1
        speed = costs.enlarging(self._observed[0].probe.clip, self._context.device) if any(runs.values()) else 0.0
        for name, count in runs.items():
            if count:
                work = count * each[name]
                self._add("enhance", name, count, work, speed * work, side_by_side=True)
        return share - left

    def _layers(self, share: float) -> float:
        """Add single layers and the search for a set of them: what they are allowed, or all steps where these are less.

        A layer is attacked alone and left out, and so is the whole update; where layers were asked for, the search
        takes as much again.
        """
        sent = frozenset(self._context.protocol.sent)
        layers = [x for x in self._context.target.layers if sent.intersection(x.parameters)]
        searches = 2.0 if self._options.layers else 1.0
        due = len(layers) if self._options.layers is None else min(len(layers), self._options.layers)
        runs = 2 * due + 1
        each = SEARCHES * LAYER_STEPS * self._pace
        return self._add("layers", "single layers", runs, min(share, searches * runs * each), side_by_side=True)

    def _variants(self, share: float) -> float:
        exposed = next((p.work for p in self._parts if p.stage == "expose"), 0.0)
        one = _RIVALS * min(0.4 * share / (_VARIANTS * _RIVALS), self._preset.steps * self._pace)
        one += min(0.25 * share / _VARIANTS, exposed) + min(0.3 * share / _VARIANTS, MOST_STEPS * self._pace)
        return self._add("what-if", "variants of the protocol", _VARIANTS, _VARIANTS * one, side_by_side=True)
