"""An update that a client computed from a known clip, beside the one that the audit simulates, and why they differ."""

import datetime
from collections.abc import Mapping

import torch
from torch import Tensor

from auditor.attack import restore_labels
from auditor.errors import UsageError
from auditor.federated.supposed_training import SupposedTraining, supposed_update
from auditor.options import ClientOptions
from auditor.pipeline.captured.comparison import compared, cosine, difference
from auditor.pipeline.captured.labels import Labelled, labels_behind
from auditor.pipeline.captured.suppositions import Explanation, Replayed, explanations, not_sent
from auditor.pipeline.captured.update import Captured, capture, check_given
from auditor.pipeline.context import view_with
from auditor.pipeline.progress import Display
from auditor.pipeline.single_attack.named import check_clip, clip_named
from auditor.pipeline.threads import threads_for
from auditor.records import Ceiling, Clips, Label, LabelGuess, Probe, record
from auditor.results.updates.replay import ComparedTensor
from auditor.update_options import CapturedUpdate, ReplayedClip

# Two float32 clients on one machine agree to 1e-6; sums in another order, and weights that are rounded before their
# difference is taken, cost up to 1e-4 of an update. What is planted in the tests moves it by 1e-3 and more.
TOLERANCE = 1e-4
# The best of many wrong suppositions, a factor above all, leaves three quarters of what another clip makes.
_EXPLAINED = 0.5


@record
class Comparison:
    """Two updates side by side, and what may explain where they differ, the best first."""

    options: ClientOptions
    started: datetime.datetime
    seconds: float
    captured: Captured
    probe: Probe
    labelled: Labelled
    difference: float
    cosine: float
    tensors: tuple[ComparedTensor, ...]
    explanations: tuple[Explanation, ...]
    untried: tuple[str, ...]

    @property
    def agrees(self) -> bool:
        """Whether the simulated client sends what the real one sent."""
        return self.difference <= TOLERANCE

    @property
    def explained(self) -> bool:
        """Whether something that was tried explains most of the difference."""
        # An update of zeros leaves all of what was sent: 1, however far the simulated one is from it.
        return bool(self.explanations) and self.explanations[0].remaining <= _EXPLAINED * min(1.0, self.difference)


def check_words(captured: CapturedUpdate, clip: ReplayedClip, options: ClientOptions) -> None:
    """Raise UsageError for all that can be checked before a model is loaded."""
    check_given(captured, options)
    if not captured.given:
        raise UsageError("no update was given", "give --update FILE, or --after FILE")
    if options.batch != 1:
        raise UsageError("--batch is more than 1, and a replay knows one clip", "replay an update of one clip")
    if options.defence:
        raise UsageError(
            "--defence is simulated by no replay, which tells clipping, scaling and noise by itself", "leave it out"
        )
    check_clip(clip.clip)


def replay(captured: CapturedUpdate, clip: ReplayedClip, options: ClientOptions, display: Display) -> Comparison:
    """Compare a captured update with the simulated one.

    Raises
    ------
    UsageError
        An option or a file is wrong.
    NotAuditable
        The model cannot be audited.
    """
    started, clock = datetime.datetime.now(datetime.UTC), Ceiling()
    check_words(captured, clip, options)
    display.stage("loading the model and the update")
    found = capture(captured, options)
    context, target = found.expected, found.context.target
    probe = clip_named(clip.clip, target.input, options.seed)
    with threads_for(target):
        view = view_with(found.context, found.update, None, None)
        told = labels_behind(clip.label, view, context)
        clips = probe.clip[None].to(context.device)
        sent = _sent(found)
        training = SupposedTraining.of(context.protocol)
        display.stage("simulating the client")
        ours = supposed_update(context.client, clips, context.client.targets(told.labels), training)
        off = difference(sent, ours)
        why: tuple[Explanation, ...] = ()
        if off > TOLERANCE:
            display.stage("looking for what explains the difference")
            why = _explained(found, clips, told, training, sent, ours)
    return Comparison(
        options=options,
        started=started,
        seconds=clock.used,
        captured=found,
        probe=probe,
        labelled=told,
        difference=off,
        cosine=cosine(sent, ours),
        tensors=compared(sent, ours),
        explanations=why,
        untried=_untried(found, training),
    )


def _sent(found: Captured) -> dict[str, Tensor]:
    """Return what travelled, with zeros for parameters that the client was said to send and did not."""
    parameters = found.expected.target.parameters
    given = found.update.gradients
    return {name: given.get(name, torch.zeros_like(parameters[name])) for name in found.expected.protocol.sent}


def _explained(
    found: Captured,
    clips: Clips,
    told: Labelled,
    training: SupposedTraining,
    sent: Mapping[str, Tensor],
    ours: Mapping[str, Tensor],
) -> tuple[Explanation, ...]:
    """Name what was not sent first, as it needs no fit, and then what explains the rest."""
    idle = [name for name, value in sent.items() if not bool(value.any()) and bool(ours[name].any())]
    replayed = Replayed(
        context=found.expected,
        clips=clips,
        label=told.labels[0],
        restored=_restored(found),
        training=training,
        sent={name: value for name, value in sent.items() if name not in idle},
    )
    if not replayed.sent:
        return (not_sent(replayed, idle),)
    missing = (not_sent(replayed, idle),) if idle else ()
    if missing and missing[0].remaining <= TOLERANCE:
        return missing
    return (*missing, *explanations(replayed))


def _restored(found: Captured) -> Label | None:
    guess = restore_labels(view_with(found.context, found.update, None, None))
    return guess.labels[0] if isinstance(guess, LabelGuess) else None


def _untried(found: Captured, training: SupposedTraining) -> tuple[str, ...]:
    """Say what no fit was made for, though a client may do it."""
    said = ["Several differences at once: what is named explains the update by itself, or in part."]
    if found.expected.target.dropout:
        said.append("Dropout: the masks of a client are its own secret.")
    if training.steps < 2:
        said.append("Momentum: the first local step has none.")
    return tuple(said)
