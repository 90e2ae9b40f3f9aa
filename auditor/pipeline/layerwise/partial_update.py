"""A part of the update under attack: what comes back from some parameters alone, by the strongest attack on them."""

from collections.abc import Mapping, Sequence
from dataclasses import field, replace

from auditor.attack import Attack, Preset, residual
from auditor.journal import Crashed, kept, parameters_digest, rounded
from auditor.pipeline.context import Context, Observed, observe_probes, unit_seed, view_of
from auditor.pipeline.deep.planning import DeepAttack, deep_attacks
from auditor.pipeline.progress import Display
from auditor.pipeline.run_attack import obstacle, run_attack
from auditor.pipeline.units import uses_reference
from auditor.records import Budget, Clips, Outcome, Probe, Reconstruction, Skipped, charged, record
from auditor.score import ClipScore, Grade, grade_clip, pair, score_clip

_SURE = ("exact", "completed")


@record
class Subject:
    """The clip whose update is attacked in parts, and the candidates among which its reconstructions are ranked."""

    context: Context
    probe: Probe
    gallery: Clips


@record
class EqualEffort:
    """What every part is attacked with, so that parts compare; `seconds` of work and `steps` are those of a search.

    `own` are the seconds of attacks by name that have others. The searches that apply to a part share out `together`
    seconds where that is more: fewer of them apply to a part than to the whole update, and each then has longer. With
    `enough`, a recognisable picture ends the attacks on a part: another attack may have had a better one.
    """

    preset: Preset
    seconds: float
    steps: int
    own: Mapping[str, float] = field(default_factory=dict)
    together: float = 0.0
    enough: bool = False

    @property
    def attacks(self) -> tuple[Attack, ...]:
        """The battery of the audit without attacks that hold frames of the scene."""
        return tuple(attack for attack in self.preset.attacks if not uses_reference(attack))


@record
class PartRecovered:
    """What came nearest to the clip.

    `lowest` is the lowest weight whose input a recursion read off, or empty; `misfit` how far its update is from the
    part that was sent, relative to that: 0 is the same, about 1 an unrelated clip's.
    """

    attack: str
    score: ClipScore
    grade: Grade
    steps: int
    lowest: str
    misfit: float


def recover(
    subject: Subject, names: Sequence[str], effort: EqualEffort, display: Display, title: str
) -> PartRecovered | Skipped:
    """Attack an update that holds the gradients of these parameters alone, as if clients trained no others.

    Closed forms and algebra come first; searches follow where none of them reproduces the update.
    """

    def depends_on() -> tuple[object, ...]:
        target, client = subject.context.target, only(subject.context, names).client
        return (
            target.sha256, target.input, target.classes, parameters_digest(target.model), client.configuration,
            tuple(names), subject.probe.name, subject.probe.clip, subject.gallery, subject.context.seed,
            effort.attacks, rounded(effort.seconds), effort.steps, {n: rounded(s) for n, s in effort.own.items()},
            rounded(effort.together), effort.enough, title,
        )  # fmt: skip

    try:
        return kept("layers", depends_on, lambda: _recovered(subject, names, effort, display, title))
    except Crashed as error:
        return Skipped(
            stage="layers", what=title, because="failed", reason=str(error), remedy="report this defect with the model"
        )


def _recovered(
    subject: Subject, names: Sequence[str], effort: EqualEffort, display: Display, title: str
) -> PartRecovered | Skipped:
    context = only(subject.context, names)
    observed = observe_probes(context, (subject.probe,))[0]
    made: list[Reconstruction] = []
    broken: Skipped | None = None
    for attack, seconds in _battery(context, observed, effort):
        if any(one.outcome is Outcome.SOLVED for one in made):
            break
        if effort.enough and made and _nearest(subject, observed, made).grade >= Grade.RECOGNISABLE:
            break
        seed = unit_seed(context.seed, "layers", title, attack.name)
        budget = Budget(seconds=seconds, steps=1 if attack.closed_form else effort.steps)
        found = run_attack(
            attack, view_of(context, observed), budget, seed, display, f"{title} · {attack.title}", seconds
        )
        if isinstance(found, Reconstruction):
            made.append(found)
        elif found.because != "not-applicable":
            broken = found
    if made:
        return _nearest(replace(subject, context=context), observed, made)
    return broken or Skipped(
        stage="layers", what=title, because="not-applicable", reason="no attack applies to it", remedy=""
    )


def only(context: Context, names: Sequence[str]) -> Context:
    """Return the set-up of clients that train and send these parameters alone."""
    protocol = replace(context.protocol, sent=tuple(names))
    return replace(context, protocol=protocol, client=context.client.under(protocol))


def _battery(context: Context, observed: Observed, effort: EqualEffort) -> list[tuple[Attack, float]]:
    """Return what applies, cheapest first, each with the seconds that it may take; algebra beyond is left out."""
    planned = deep_attacks(context, (observed,), replace(effort.preset, attacks=effort.attacks, steps=effort.steps))
    deep = {one.attack.name: one for one in planned if isinstance(one, DeepAttack)}
    idle = {one.what for one in planned if isinstance(one, Skipped)}
    view = view_of(context, observed)
    applying = [a for a in effort.attacks if a.name not in idle and obstacle(a, view) is None]
    longest = {a.name: max(effort.seconds, effort.own.get(a.name, 0.0)) for a in applying}
    if effort.together > 0.0:
        # What a following audit may have the work for must not be left out here: it would break a set that held.
        longest |= {name: max(longest[name], effort.together, 2.0 * deep[name].first) for name in deep}
    fitting = [a for a in applying if a.name not in deep or deep[a.name].first <= longest[a.name]]
    searches = sum(not a.closed_form and a.name not in deep for a in fitting)

    def seconds(attack: Attack) -> float:
        own = effort.own.get(attack.name, effort.seconds)
        if attack.name in deep and effort.together > 0.0:
            return longest[attack.name]
        return own if attack.closed_form or attack.name in deep else max(own, effort.together / searches)

    return sorted(((a, seconds(a)) for a in fitting), key=lambda one: not one[0].closed_form)


def _nearest(subject: Subject, observed: Observed, made: Sequence[Reconstruction]) -> PartRecovered:
    scores = [_score(subject, observed, one) for one in made]
    best = max(range(len(made)), key=lambda i: scores[i].gain)
    depths = [d for one in made for d in one.depth if d.how in _SURE]
    with charged(0.0):  # one gradient
        view = view_of(subject.context, observed)
        misfit = residual(view, made[best].clips, made[best].labels)
    return PartRecovered(
        attack=made[best].attack,
        score=scores[best],
        grade=grade_clip(scores[best]),
        steps=made[best].steps,
        lowest=depths[-1].weights[0] if depths else "",
        misfit=misfit,
    )


def _score(subject: Subject, observed: Observed, made: Reconstruction) -> ClipScore:
    with charged(0.0):  # little, and some of it is remembered
        order = pair(observed.clips.cpu(), made.clips.cpu())
        return score_clip(subject.probe, made.clips[order[0]].cpu(), subject.gallery)
