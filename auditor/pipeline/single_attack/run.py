"""One attack on one clip, from a model file to a scored reconstruction."""

import datetime
from dataclasses import replace

from auditor.attack import Attack
from auditor.errors import AuditError, Inconclusive, NotAuditable, UsageError
from auditor.exposure import Exposed
from auditor.federated import parse_all
from auditor.options import AttackOptions
from auditor.pipeline.context import Context, Observed, unit_seed, view_of
from auditor.pipeline.credibility import CHECKPOINTS, budget_curve, diagnose
from auditor.pipeline.defended.exposed_update import expose_update
from auditor.pipeline.pairing import in_order
from auditor.pipeline.progress import Display
from auditor.pipeline.references import References, copied, references_from
from auditor.pipeline.run_attack import run_attack
from auditor.pipeline.scan import choose_device, load_target, pixel_variance
from auditor.pipeline.single_attack.named import (
    STEPS,
    attack_named,
    check_clip,
    clip_named,
    label_of,
)
from auditor.pipeline.threads import threads_for
from auditor.pipeline.training import loss_of, observe_all, trained
from auditor.pipeline.units import uses_reference
from auditor.probe import Galleries, alike, public_probes
from auditor.records import Budget, Ceiling, Clip, Clips, Knowledge, LabelGuess, Reconstruction, View, record
from auditor.results.attempts import Diagnosis, Point
from auditor.score import ClipScore, Grade, blind_guesses, grade_clip, psnr, score_clip

_OTHERS = "fl-audit list attacks names the others"
# Share of the attack's own time that its diagnosis may take for the exposure.
_EXPOSURE = 0.25
# Of these at least one is of another scene than any clip.
_NULLS = 4


@record
class Attacked:
    """One attack on one clip, with everything that is to be told about it.

    Attributes
    ----------
    clips, clips_psnr
        What was reconstructed, in the order of the true clips, and dB of each; the first is the one that is scored.
    null, null_clip
        The same reconstruction scored against another clip: what any picture scores.
    guess
        The best blind guess for the clip, and its name.
    curve
        The score along the way; empty for closed forms.
    references, reference_notes
        The frames of the scene that such an attacker holds, and what is to be told about them.
    """

    options: AttackOptions
    started: datetime.datetime
    seconds: float
    context: Context
    observed: Observed
    attack: Attack
    knowledge: Knowledge
    made: Reconstruction
    clips: Clips
    clips_psnr: tuple[float, ...]
    score: ClipScore
    grade: Grade
    null: ClipScore
    null_clip: str
    guess: Clip
    guess_name: str
    curve: tuple[Point, ...]
    diagnosis: Diagnosis | None
    references: References
    reference_notes: tuple[str, ...]


def check_words(options: AttackOptions) -> Attack:
    """Return the attack, after all that can be checked before a model is loaded.

    Raises
    ------
    UsageError
        There is no such attack, clip or defence, or the attack has no use for an option.
    """
    attack = attack_named(options.attack, options.restarts)
    refuse_idle_references(attack, options)
    check_clip(options.clip)
    parse_all(options.defence)
    return attack


def attack_one(options: AttackOptions, display: Display) -> Attacked:
    """Attack one clip and score what was reconstructed.

    Raises
    ------
    UsageError
        An option is wrong.
    NotAuditable
        The model cannot be audited, or the attack does not apply to its updates.
    Inconclusive
        The time did not hold the attack.
    AuditError
        The attack failed.
    """
    started, clock = datetime.datetime.now(datetime.UTC), Ceiling()
    attack = check_words(options)
    device = choose_device(options.device)
    display.stage("loading the model")
    target = load_target(options, device)
    context = trained(target, options, loss_of(options.loss, target))
    probe = clip_named(options.clip, target.input, options.seed)
    label = label_of(options.label, probe.name, target.classes, context.client.loss.kind)
    references = references_from(options.reference, target.input)
    reason = references.obstacle(attack, probe)
    if reason is not None:
        raise UsageError(f"the attack {attack.name} does not apply: {reason}", "give --reference more frames")
    frames = references.held(attack, probe)
    with threads_for(target):
        (observed,) = observe_all(context, [probe], [label])
        view = _view(context, observed, options.known_label, frames)
        budget = Budget(seconds=options.max_time, steps=options.steps or STEPS, checkpoints=CHECKPOINTS)
        made = inverted(attack, view, budget, options.seed, probe.name, display)
        clips = in_order(observed, made.clips)
        other = next(p for p in public_probes(target.input, _NULLS) if not alike(p, probe))
        galleries = Galleries(target.input, (probe, other))
        gallery = galleries[probe.name]
        score = score_clip(probe, clips[0], gallery, frames)
        grade = grade_clip(score, with_reference=frames is not None)
        diagnosis = _diagnosis(options, context, observed, attack, view, made, grade, gallery, display)
    guesses = blind_guesses(gallery, (target.input.height, target.input.width), frames, probe.clip)
    alone = copied(references, attack, probe, gallery)
    best = max(score.baselines, key=lambda name: score.baselines[name])
    return Attacked(
        options=options,
        started=started,
        seconds=clock.used,
        context=context,
        observed=observed,
        attack=attack,
        knowledge=view.knowledge,
        made=made,
        clips=clips,
        clips_psnr=tuple(float(psnr(a.cpu(), b)) for a, b in zip(observed.clips, clips, strict=True)),
        score=score,
        grade=grade,
        null=score_clip(other, clips[0], galleries[other.name]),
        null_clip=other.name,
        guess=guesses[best],
        guess_name=best,
        curve=budget_curve(observed, made),
        diagnosis=diagnosis,
        references=references,
        reference_notes=() if alone is None else (*references.notes, *alone.notes),
    )


def _view(context: Context, observed: Observed, known: bool | None, frames: Clip | None) -> View:
    """What the attacker sees, with labels known, restored, or as in a scan."""
    view = view_of(context, observed, None if frames is None else frames.to(context.device))
    if known is None:
        return view
    if known:
        labels, origin = observed.labels, "assumed known"
    elif isinstance(observed.guess, LabelGuess):
        labels, origin = observed.guess.labels, f"restored from the update by {observed.guess.rule}"
    else:
        raise UsageError(f"no label can be restored here: {observed.guess.reason}", "leave --restored-label out")
    return replace(view, knowledge=replace(view.knowledge, labels=labels, labels_from=origin))


def refuse_idle_references(attack: Attack, options: AttackOptions) -> None:
    """Raise UsageError where frames of the scene were given to an attack that has no use for them."""
    if options.reference and not uses_reference(attack):
        raise UsageError(f"the attack {attack.name} uses no reference frame", "leave --reference out")


def inverted(attack: Attack, view: View, budget: Budget, seed: int, what: str, display: Display) -> Reconstruction:
    """Return what an attack makes of an update; `what` names the update, for people and for the seed.

    Raises
    ------
    NotAuditable, Inconclusive, AuditError
        The attack does not apply, the time did not hold it, or it failed.
    """
    own = unit_seed(seed, attack.name, what, "0")
    display.stage("attack")
    made = run_attack(attack, view, budget, own, display, f"{attack.title} · {what}", budget.seconds)
    if isinstance(made, Reconstruction):
        return made
    if made.because == "out-of-budget":
        raise Inconclusive(f"inconclusive: {made.reason}", made.remedy or "give more --max-time")
    if made.because == "failed":
        raise AuditError(f"the attack {attack.name} failed: {made.reason}", made.remedy)
    raise NotAuditable(f"the attack {attack.name} does not apply: {made.reason}", made.remedy or _OTHERS)


def _diagnosis(
    options: AttackOptions,
    context: Context,
    observed: Observed,
    attack: Attack,
    view: View,
    made: Reconstruction,
    grade: Grade,
    gallery: Clips,
    display: Display,
) -> Diagnosis | None:
    """Measure exposure and start the search at the truth, where that was asked for; as much time again at most."""
    if not options.diagnose:
        return None
    seconds = options.max_time
    display.stage("diagnosis")
    exact = grade is Grade.EXACT  # a clip may be solved where the layer sees a part of it
    told = not exact
    predicted = _predicted(context, observed, gallery, _EXPOSURE * seconds, display) if told else None
    with display.unit("search from the truth", seconds) as progress:
        budget = Budget(seconds=seconds, steps=options.steps or STEPS, progress=progress)
        return diagnose(context, observed, attack, view, made, budget, exact=exact, exposure=predicted)


def _predicted(context: Context, observed: Observed, gallery: Clips, seconds: float, display: Display) -> float | None:
    with display.unit("mode exposure", seconds) as progress:
        found = expose_update(context, observed, pixel_variance(gallery), seconds, progress)
    return found.all.psnr if isinstance(found, Exposed) else None
