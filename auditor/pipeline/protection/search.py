"""From a model to the weakest setting of every defence at which no attack finds a clip, and what it costs."""

import datetime
from collections.abc import Callable, Sequence
from dataclasses import replace

from auditor.attack import LEAST_STEPS, PRESETS, Attack, Preset
from auditor.errors import Inconclusive, UsageError
from auditor.exposure import Exposed
from auditor.federated import BareSize, ClientTraining, Family, families, parse_all
from auditor.options import DefendOptions
from auditor.pipeline.context import Context
from auditor.pipeline.deep.memory import available_bytes, too_large_to_expose
from auditor.pipeline.deep.planning import deep_attacks, planned_seconds
from auditor.pipeline.defended.exposed_update import expose_update
from auditor.pipeline.findings import seconds_to_score
from auditor.pipeline.progress import Display
from auditor.pipeline.protection.judging import Judge, Judged
from auditor.pipeline.protection.utility import (
    LEAST_ROUNDS,
    ROUNDS,
    Utility,
    accuracy,
    labelled,
    round_seconds,
    user_utility,
)
from auditor.pipeline.run_attack import unmet
from auditor.pipeline.scan import check_scene, choose_device, load_target, pixel_variance
from auditor.pipeline.threads import threads_for
from auditor.pipeline.training import check_order, loss_of, observe_all
from auditor.pipeline.units import seconds_per_step, uses_reference
from auditor.probe import Galleries, alike, canary, shipped_probes, user_probes
from auditor.records import Clock, InputSpec, Probe, Skipped, Target, counting, record
from auditor.score import Grade, exposed
from auditor.solvers.weakest import Bracket, weakest_on_ladder, weakest_on_scale

# Steps of a search at every setting: more found no clip under stronger noise (docs/defences.md).
MOST_STEPS = 300
# Settings that a family takes at most: a bracket by factors of four from the start, and its halvings.
_FACTOR, _SETTINGS_OF_SCALE = 4.0, 7
# A weakest setting is told to this factor; noise drawn anew moves it about as much.
PRECISION = 1.25
# Share of the work for attacks; the rest is for accuracy and linear analysis.
_ATTACKS = 0.75
# What a search computes besides its steps.
_MARGIN = 1.25
_LIMITS = {"picture": Grade.RECOGNISABLE, "nothing": Grade.GIST}
_FOREIGN = 2


@record
class Setting:
    """One judged setting of a family."""

    strength: float
    judged: Judged


@record
class FamilySearch:
    """What was found of one kind of defence.

    Attributes
    ----------
    settings
        From weak to strong.
    weakest
        The weakest setting at which no attack finds a clip; None where there is none, or it could not be told.
    there
        The strongest setting at which one does.
    told
        Whether every setting that the search asked for could be judged; `why_not` says what hindered it.
    exposed
        What linear analysis predicts of the weakest setting; None where memory does not hold it.
    advised
        The weakest setting at which linear analysis does not call the clip exposed either, so that a scan may pass;
        None where there is none, or an attack finds a clip there.
    utility
        Of the setting that is advised, else of the weakest one.
    """

    family: Family
    settings: tuple[Setting, ...]
    weakest: Setting | None
    there: Setting | None
    told: bool
    why_not: str
    exposed: Exposed | None = None
    advised: Setting | None = None
    utility: Utility | None = None


@record
class Protection:
    """What protection costs on one model, and where it begins; `searches` is empty where there is nothing to hide."""

    options: DefendOptions
    started: datetime.datetime
    seconds: float
    context: Context
    probes: tuple[Probe, ...]
    steps: int
    size: BareSize
    bare: Judged
    utility: Utility | Skipped
    rounds: int
    searches: tuple[FamilySearch, ...]


def check_words(options: DefendOptions) -> None:
    """Raise UsageError for all that can be checked before a model is loaded."""
    training = _training(options)
    for family in families(options.defence, training):
        first = family.ladder[0] if family.ladder else family.start
        check_order(parse_all(family.specs(first, BareSize(norm=1.0, entries=1)), training))
    if options.dp_claim is not None:
        raise UsageError("--dp-claim is no part of a search for protection", "give it to scan or inspect")


def _training(options: DefendOptions, steps: int = 1) -> ClientTraining:
    return ClientTraining(clips=options.batch, steps=steps, one_gradient=options.algorithm == "FedSGD")


@counting()
def defend(options: DefendOptions, display: Display) -> Protection:
    """Search every family for the weakest setting at which no attack that knows it finds a clip.

    Raises
    ------
    UsageError
        An option is wrong.
    NotAuditable
        The model cannot be audited.
    Inconclusive
        The work does not hold a search, or attacks could not be judged without any defence.
    """
    started, clock = datetime.datetime.now(datetime.UTC), Clock(options.max_time)
    check_words(options)
    own = None if options.utility is None else user_utility(options.utility)
    target = load_target(options, choose_device(options.device))
    display.stage("making clips")
    probes = _probes(options, target.input)
    with threads_for(target):
        judge, wanted = _judge(options, target, probes, clock, display)
        display.stage("attacks without any defence")
        bare = judge.bare()
        if bare.gone is None:
            raise Inconclusive(f"inconclusive without any defence: {bare.why_not}", "give more --max-time, or memory")
        size = bare.size
        measure, rounds, first = _utility(options, judge, bare, own, clock, display)
        searches = []
        for place, family in enumerate(wanted if not bare.gone else ()):
            display.stage(f"defence {family.name}")
            share = clock.left / (len(wanted) - place)
            searches.append(_search(judge, family, size, bare, Clock(share), measure, display))
    return Protection(
        options=options,
        started=started,
        seconds=clock.used,
        context=bare.context,
        probes=probes,
        steps=judge.preset.steps,
        size=bare.size,
        bare=bare,
        utility=first,
        rounds=rounds,
        searches=tuple(searches),
    )


def _probes(options: DefendOptions, spec: InputSpec) -> tuple[Probe, ...]:
    """The user's clips or shipped ones; with a canary where they are of one scene, as each needs another for a null."""
    if options.probes:
        clips: tuple[Probe, ...] = tuple(p for path in options.probes for p in user_probes(path, spec))
    else:
        clips = shipped_probes(spec, PRESETS[options.preset].probes)
    for probe in clips:
        check_scene(probe)
    foreign = any(not alike(clips[0], other) for other in clips[1:])
    return clips if foreign else (*clips, canary(spec, options.seed))


def _judge(
    options: DefendOptions, target: Target, probes: tuple[Probe, ...], clock: Clock, display: Display
) -> tuple[Judge, tuple[Family, ...]]:
    """Return the judge with as many steps a search as the work holds at every setting that there may be."""
    preset = _battery(PRESETS[options.preset])
    judge = Judge(
        target=target,
        options=options,
        loss=loss_of(options.loss, target),
        probes=probes,
        galleries=Galleries(target.input, probes),
        preset=preset,
        limit=_LIMITS[options.until],
        pace=0.0,
        display=display,
    )
    context = judge.set_up(())
    observed = observe_all(context, probes[:1])
    training = _training(options, context.protocol.steps)
    wanted = families(options.defence, training)
    pace = seconds_per_step(context, observed[0])
    deep = deep_attacks(context, observed, preset)
    names = {d.what if isinstance(d, Skipped) else d.attack.name for d in deep}
    searching = tuple(a for a in preset.attacks if not a.closed_form and a.name not in names)
    searches = len(searching) + sum(_searches(family, searching, training) for family in wanted)
    settings = 1 + sum(map(_settings, wanted))
    left = _ATTACKS * clock.left / len(probes)
    left -= settings * planned_seconds(deep, 1) + (settings + searches) * seconds_to_score(probes[0])
    steps = min(MOST_STEPS, int(left / (searches * pace * _MARGIN)))
    if steps < LEAST_STEPS:
        raise Inconclusive(
            f"inconclusive: --max-time holds {max(0, steps)} steps of each of {searches} searches a clip, and "
            f"{LEAST_STEPS} are the least",
            "give more --max-time, or fewer defences by --defence",
        )
    return replace(judge, pace=pace, preset=replace(preset, steps=steps)), wanted


def _settings(family: Family) -> int:
    """Return how many settings of a family are judged at most."""
    return len(family.ladder).bit_length() if family.ladder else _SETTINGS_OF_SCALE


def _searches(family: Family, attacks: Sequence[Attack], training: ClientTraining) -> int:
    """Return how many searches of one clip a family takes at most; one of a sum counts once for every client."""
    first = family.ladder[0] if family.ladder else family.start
    defences = parse_all(family.specs(first, BareSize(norm=1.0, entries=1)), training)
    meeting = max(1, sum(unmet(attack, defences) is None for attack in attacks))
    return meeting * (int(sum(family.ladder)) if family.by_clients else _settings(family))


def _battery(preset: Preset) -> Preset:
    """Return the preset with the attacks that hold no frame of the scene: with one, a picture proves little."""
    return replace(preset, attacks=tuple(a for a in preset.attacks if not uses_reference(a)), seeds=1, diagnose=False)


Measure = Callable[[Context], Utility] | None


def _utility(
    options: DefendOptions,
    judge: Judge,
    bare: Judged,
    own: Callable[[Context], Utility] | None,
    clock: Clock,
    display: Display,
) -> tuple[Measure, int, Utility | Skipped]:
    """Return how utility is measured, in how many rounds, and its value without any defence."""
    if bare.gone:
        return None, 0, _unmeasured("there is no finding that a defence could hide")
    display.stage("utility without any defence")
    if own is not None:
        return own, 0, own(bare.context)
    clips = labelled(bare.context, options.seed)
    if isinstance(clips, Skipped):
        return None, 0, clips
    seconds = round_seconds(bare.context, clips)
    count = len(families(options.defence, _training(options)))
    rounds = min(ROUNDS, int((1.0 - _ATTACKS) * clock.left / ((1 + count) * max(seconds, 1e-9))))
    if rounds < LEAST_ROUNDS:
        return None, 0, _unmeasured(f"--max-time holds {rounds} rounds of training for each defence")

    def trained(context: Context) -> Utility:
        return accuracy(context, clips, rounds)

    return trained, rounds, trained(bare.context)


def _unmeasured(reason: str) -> Skipped:
    return Skipped(stage="utility", what="accuracy", because="out-of-budget", reason=reason, remedy="")


def _search(
    judge: Judge, family: Family, size: BareSize, bare: Judged, clock: Clock, measure: Measure, display: Display
) -> FamilySearch:
    """Search one family, and measure what its weakest setting costs."""
    made: dict[float, Setting] = {}
    hindered: list[str] = []
    ranked = _ranked(judge, bare)
    finding = tuple(shown.attack for shown in bare.shown if shown.finds)

    def gone(strength: float) -> bool | None:
        if strength in made:
            return made[strength].judged.gone
        if clock.left < 0.0:
            hindered.append("the work was used up before every setting was judged")
            return None
        try:
            judged = judge(family.specs(strength, size), ranked, finding)
        except UsageError as error:
            hindered.append(str(error))
            return None
        made[strength] = Setting(strength=strength, judged=judged)
        if judged.gone is None:
            hindered.append(judged.why_not)
        return judged.gone

    found = _bracket(family, gone)
    weakest = None if found.gone is None else made[found.gone]
    seen = None if weakest is None else _exposed(judge, weakest.judged.specs, display)
    hidden = None if weakest is None else _hidden(judge, family, size, weakest, seen, display)
    advised = made[hidden] if hidden is not None and gone(hidden) else None
    costs = advised or weakest
    return FamilySearch(
        family=family,
        settings=tuple(made[s] for s in sorted(made)),
        weakest=weakest,
        there=None if found.there is None else made[found.there],
        told=found.told,
        why_not=hindered[-1] if hindered else "",
        exposed=seen,
        advised=advised,
        utility=None if costs is None or measure is None else measure(costs.judged.context),
    )


def _hidden(
    judge: Judge, family: Family, size: BareSize, weakest: Setting, seen: Exposed | None, display: Display
) -> float | None:
    """Return the weakest strength, from that at which attacks fail on, that linear analysis does not call exposed.

    Where memory does not hold the analysis, attacks alone decide. It takes seconds, so that a setting is judged by
    attacks once it is found.
    """
    if seen is None:
        return weakest.strength

    def unseen(strength: float) -> bool | None:
        found = seen if strength == weakest.strength else _exposed(judge, family.specs(strength, size), display)
        told = None if found is None else exposed(found.all)
        return None if told is None else not told

    onwards = replace(
        family,
        start=weakest.strength,
        least=weakest.strength,
        ladder=tuple(s for s in family.ladder if s >= weakest.strength),
    )
    return _bracket(onwards, unseen).gone


def _bracket(family: Family, gone: Callable[[float], bool | None]) -> Bracket:
    if family.ladder:
        return weakest_on_ladder(gone, family.ladder)
    return weakest_on_scale(gone, family.start, family.least, family.most, factor=_FACTOR, precision=PRECISION)


def _ranked(judge: Judge, bare: Judged) -> tuple[Attack, ...]:
    """Return the attacks, those first that found most in the bare update: one that finds a clip ends a setting."""
    order = {shown.attack.name: place for place, shown in enumerate(bare.shown)}
    return tuple(sorted(judge.preset.attacks, key=lambda a: order.get(a.name, len(order))))


def _exposed(judge: Judge, specs: Sequence[str], display: Display) -> Exposed | None:
    """Return what linear analysis predicts of a setting, whatever attacks made of it."""
    context = judge.set_up(specs)
    if too_large_to_expose(context, available_bytes(context.device)) is not None:
        return None
    (observed,) = observe_all(context, judge.probes[:1])
    variance = pixel_variance(judge.galleries[judge.probes[0].name])
    seconds = MOST_STEPS * judge.pace
    with display.unit(f"mode exposure under {' and '.join(specs)}", seconds) as progress:
        found = expose_update(context, observed, variance, seconds, progress)
    return found if isinstance(found, Exposed) else None
