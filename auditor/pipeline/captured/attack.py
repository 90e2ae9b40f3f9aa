"""One attack on a captured update: nobody holds the truth here, so nothing is scored."""

import datetime
from collections.abc import Sequence
from dataclasses import replace

import torch

from auditor.attack import REPRODUCES, Attack, as_sent, distance, residual
from auditor.errors import UsageError
from auditor.options import AttackOptions
from auditor.pipeline.captured.labels import labels_behind
from auditor.pipeline.captured.update import Captured, capture, check_given
from auditor.pipeline.context import view_with
from auditor.pipeline.progress import Display
from auditor.pipeline.references import references_from
from auditor.pipeline.single_attack.named import STEPS, attack_named
from auditor.pipeline.single_attack.run import inverted, refuse_idle_references
from auditor.pipeline.threads import threads_for
from auditor.probe import moving_texture
from auditor.records import Budget, Ceiling, Clip, Clips, Label, Reconstruction, View, record
from auditor.results.updates.captured import Proof
from auditor.update_options import CapturedUpdate

# Made-up clips whose own updates say what an unrelated clip leaves of this one; shipped ones might be the client's.
UNRELATED = 4
# Nearer than this share of what the nearest unrelated clip leaves is no accident of the few clips that were tried.
_CLOSER = 0.5
NOT_CLAIMED = (
    "There is no true clip to compare with: no score, no grade and no verdict. Whether a picture shows the clip, only "
    "somebody who knows the clip can say.",
    "A small residual says that this clip sends this update. It does not say that no other clip does.",
    "A failed attack says nothing about other attacks. fl-audit scan tries them on clips that it knows.",
)


@record
class AttackedCapture:
    """One attack on a captured update, with everything that is to be told about it.

    Attributes
    ----------
    residual, unrelated
        ||g(x) - g*|| / ||g*|| of the reconstruction, and of public clips that have nothing to do with it.
    """

    options: AttackOptions
    started: datetime.datetime
    seconds: float
    captured: Captured
    attack: Attack
    view: View
    made: Reconstruction
    residual: float
    unrelated: tuple[float, ...]
    proof: Proof
    reference: str | None

    @property
    def clips(self) -> Clips:
        """What was reconstructed, in [0, 1], on the CPU."""
        return self.made.clips.detach().cpu()


def check_words(captured: CapturedUpdate, options: AttackOptions) -> Attack:
    """Return the attack, after all that can be checked before a model is loaded.

    Raises
    ------
    UsageError
        An option needs the true clip, or has no use.
    """
    check_given(captured, options)
    attack = attack_named(options.attack, options.restarts)
    refuse_idle_references(attack, options)
    if options.clip != AttackOptions().clip:
        raise UsageError("--clip names the true clip, which a captured update does not bring", "leave --clip out")
    if options.diagnose:
        raise UsageError("--diagnose starts at the true clip, which a captured update does not bring", "leave it out")
    if any(text.startswith("first:") for text in options.reference):
        raise UsageError("--reference first:K takes frames of the true clip", "give frames of the scene as files")
    if attack.frames_of_scene and not options.reference:
        raise UsageError(f"the attack {attack.name} needs a frame of the scene", "add --reference FILE")
    if options.known_label is not None and options.known_label != (options.label is not None):
        raise UsageError(
            "--known-label and --restored-label say the same as --label does here", "give --label where it is known"
        )
    return attack


def attack_captured(captured: CapturedUpdate, options: AttackOptions, display: Display) -> AttackedCapture:
    """Attack a captured update.

    Raises
    ------
    UsageError
        An option or a file is wrong.
    NotAuditable
        The model cannot be audited, or the attack does not apply to its updates.
    Inconclusive
        The time did not hold the attack.
    AuditError
        The attack failed.
    """
    started, clock = datetime.datetime.now(datetime.UTC), Ceiling()
    attack = check_words(captured, options)
    display.stage("loading the model and the update")
    found = capture(captured, options)
    context = found.context
    references = references_from(options.reference, context.target.input)
    frames = None if references.given is None else references.given[-attack.frames_of_scene :].to(context.device)
    with threads_for(context.target):
        view = _view(found, options.label, frames)
        budget = Budget(seconds=options.max_time, steps=options.steps or STEPS)
        made = inverted(attack, view, budget, options.seed, "captured update", display)
        off = unexplained(view, made.clips, made.labels)
        others = unrelated_residuals(view, made.labels)
    return AttackedCapture(
        options=options,
        started=started,
        seconds=clock.used,
        captured=found,
        attack=attack,
        view=view,
        made=made,
        residual=off,
        unrelated=others,
        proof=proven(off, others),
        reference=references.source if attack.frames_of_scene else None,
    )


def _view(found: Captured, label: str | None, frames: Clip | None) -> View:
    view = view_with(found.context, found.update, None, frames)
    told = labels_behind(label, view, found.context)
    return replace(view, knowledge=replace(view.knowledge, labels=told.labels, labels_from=told.origin))


def unexplained(view: View, clips: Clips, labels: tuple[Label, ...]) -> float:
    """Return ||g(x) - g*|| / ||g*||, where the client's defences are known as it would have been sent."""
    if not view.knowledge.defences:
        return residual(view, clips, labels)
    sent = dict(view.update.gradients)
    again = view.client(clips, view.client.targets(labels))
    return distance(dict(as_sent(view.knowledge.defences, again, sent)), sent)


def unrelated_residuals(view: View, labels: tuple[Label, ...]) -> tuple[float, ...]:
    """Return the residuals of made-up clips under the same labels: what any clip leaves of this update."""
    batch, device = view.update.batch, next(iter(view.update.gradients.values())).device
    clips = [moving_texture(view.target.input, seed).clip for seed in range(UNRELATED + batch - 1)]
    batches = (torch.stack(clips[i : i + batch]).to(device) for i in range(UNRELATED))
    return tuple(unexplained(view, given, labels) for given in batches)


def proven(off: float, others: Sequence[float]) -> Proof:
    """Say what a residual proves beside those of unrelated clips."""
    nearest = min(others)
    if nearest < REPRODUCES:
        return Proof.INDISTINCT
    if off < min(REPRODUCES, _CLOSER * nearest):
        return Proof.REPRODUCED
    return Proof.CLOSER if off < _CLOSER * nearest else Proof.NOTHING
