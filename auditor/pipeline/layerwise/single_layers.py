"""Every layer by itself: what its gradient alone gives away, and what the rest of the update gives away without it."""

import math
from collections.abc import Mapping, Sequence
from functools import partial

from torch import Tensor

from auditor.attack import LEAST_STEPS, Preset
from auditor.exposure import Exposed
from auditor.pipeline.documents.model import determined
from auditor.pipeline.layerwise.partial_update import EqualEffort, PartRecovered, Subject, recover
from auditor.pipeline.layerwise.structural_sets import sent_layers
from auditor.pipeline.progress import Display
from auditor.pipeline.workers import Task, make_ahead
from auditor.records import Ceiling, Clock, Layer, Skipped, counting, joint_norm, record

# Beyond this a search on one part gains little, and others wait for the work.
MOST_STEPS = 300
# Searches that meet a part, on average: least squares and a descent, where no closed form solves it.
SEARCHES = 2.0
# What a search computes besides its steps.
_MARGIN = 1.25
_WHOLE = "whole update"
# Of the work: the rest is for sets of layers.
_SINGLE = 0.6


@record
class LayerAttack:
    """One layer: what came of its gradient alone, and of the update without it (None where nothing else is sent)."""

    layer: Layer
    alone: PartRecovered | Skipped
    without: PartRecovered | Skipped | None


@record
class LayerAttacks:
    """The layers that were attacked, most promising first, with the whole update at the same effort.

    `sizes` are norms of gradients by layer index; `left_out` says why other layers were not attacked. Where the work
    holds none of them, `whole` says so.
    """

    subject: Subject
    effort: EqualEffort
    whole: PartRecovered | Skipped
    layers: tuple[LayerAttack, ...]
    sizes: Mapping[int, float]
    of: int
    left_out: str


@counting()
def attack_layers(
    subject: Subject,
    preset: Preset,
    exposed: Exposed | None,
    gradients: Mapping[str, Tensor],
    wanted: int | None,
    seconds: float,
    pace: float,
    display: Display,
    ceiling: Ceiling,
) -> LayerAttacks:
    """Attack single layers, most promising first, with equal work each.

    Parameters
    ----------
    exposed, gradients
        Of the subject's update, by which layers are ordered.
    wanted
        How many layers at most; None takes as many as the work holds.
    seconds, pace
        Reference seconds for all of it, and of a step of gradient matching.
    """
    layers = by_promise(subject, exposed, gradients)
    clock = Clock(_SINGLE * seconds)
    due = layers if wanted is None else layers[:wanted]
    steps = max(LEAST_STEPS, _steps(clock.left, pace, len(due)))
    if _cost(steps, pace, 1) > seconds:
        due = ()
    effort = EqualEffort(preset=preset, seconds=_MARGIN * steps * pace, steps=steps)
    sizes = {layer.index: gradient_size(layer, gradients) for layer in layers}
    if not due:
        needed = f"a step is {pace:.2g} s of work, and {max(0.0, seconds):.0f} s were left for single layers"
        none = Skipped(
            stage="layers", what="single layers", because="out-of-budget", reason=needed, remedy="give more --max-time"
        )
        return LayerAttacks(
            subject=subject, effort=effort, whole=none, layers=(), sizes=sizes, of=len(layers), left_out=needed
        )
    everything = subject.context.protocol.sent
    _ahead(subject, due, effort, display, ceiling)
    whole = recover(subject, everything, effort, display, _WHOLE)
    made: list[LayerAttack] = []
    why = "" if len(due) == len(layers) else f"{len(due)} of {len(layers)} layers were asked for"
    for layer in due:
        late = ceiling.too_late("layers", layer.name, 2.0 * effort.seconds)
        if late is not None or (made and clock.left <= 0.0):
            why = f"the work held {len(made)} of {len(layers)} layers" if late is None else late.reason
            break
        (alone, own), (without, rest) = _parts(layer, everything)
        made.append(
            LayerAttack(
                layer=layer,
                alone=recover(subject, own, effort, display, alone),
                without=recover(subject, rest, effort, display, without) if rest else None,
            )
        )
    return LayerAttacks(
        subject=subject,
        effort=effort,
        whole=whole,
        layers=tuple(made),
        sizes=sizes,
        of=len(layers),
        left_out=why,
    )


def _parts(layer: Layer, everything: Sequence[str]) -> tuple[tuple[str, list[str]], tuple[str, list[str]]]:
    """Return what is sent of a layer, and the rest, each with its title."""
    own = [name for name in everything if name in layer.parameters]
    rest = [name for name in everything if name not in layer.parameters]
    return (f"{layer.name} alone", own), (f"without {layer.name}", rest)


def _ahead(subject: Subject, due: Sequence[Layer], effort: EqualEffort, display: Display, ceiling: Ceiling) -> None:
    """Let attacks on all parts be made side by side; the rest of an update has more to attack than a layer."""
    everything = subject.context.protocol.sent
    pairs = [_parts(layer, everything) for layer in due]
    large = [(_WHOLE, list(everything)), *(rest for _, rest in pairs)]
    parts = [(one, 1.0) for one in large] + [(one, 0.5) for one, _ in pairs]
    tasks = [
        Task(run=partial(recover, subject, names, effort, display, title), seconds=share * SEARCHES * effort.seconds)
        for (title, names), share in parts
        if names
    ]
    make_ahead(tasks, display, ceiling)


def by_promise(subject: Subject, exposed: Exposed | None, gradients: Mapping[str, Tensor]) -> Sequence[Layer]:
    """Return the layers that are sent: by what their equations determine, what they expose, and their gradient's size.

    Layers whose inputs equations determine may give more than linear analysis sees; the others go by it.
    """
    context = subject.context
    shares = {name: d.share for d in determined(context) for name in d.layers}

    def promise(layer: Layer) -> tuple[float, float, float]:
        seen = None if exposed is None else exposed.layers.get(layer.index)
        return (
            -shares.get(layer.name, 0.0),
            math.inf if seen is None else -seen.psnr,
            -gradient_size(layer, gradients),
        )

    return sorted(sent_layers(context), key=promise)


def gradient_size(layer: Layer, gradients: Mapping[str, Tensor]) -> float:
    """Return the norm of what an update holds of a layer."""
    return joint_norm(gradients[name] for name in layer.parameters if name in gradients)


def _steps(seconds: float, pace: float, layers: int) -> int:
    """Return the steps of a search for which the seconds hold so many layers."""
    return min(MOST_STEPS, int(seconds / max(1e-9, _cost(1, pace, layers))))


def _cost(steps: int, pace: float, layers: int) -> float:
    """Return the seconds of attacks on every layer alone and left out, and once on the whole update."""
    return _MARGIN * steps * pace * SEARCHES * (2 * layers + 1)
