"""Which layers to keep back: a greedy search for a set without which no attack finds a recognisable picture."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from auditor.attack import Preset
from auditor.pipeline.layerwise.partial_update import EqualEffort, PartRecovered, Subject, recover
from auditor.pipeline.layerwise.single_layers import LayerAttack, LayerAttacks
from auditor.pipeline.progress import Display
from auditor.pipeline.workers import Task, make_ahead
from auditor.records import Ceiling, Clock, Layer, Skipped, counting, record
from auditor.score import Grade

# How many layers are tried at each growth of the set: those without which least was left.
_TRIED = 3


@record
class Audited:
    """What the audit itself did: the seconds of each attack, and whether a picture of the clip was recognisable.

    `others` are further clips that have to hold for a set which ends pictures of the first.
    """

    seconds: Mapping[str, float]
    shown: bool
    others: tuple[Subject, ...] = ()


@record
class Withheld:
    """A set of layers that was kept back, and what the strongest attack made of the rest."""

    layers: tuple[Layer, ...]
    left: PartRecovered | Skipped


@record
class Withholding:
    """Where the search ended.

    Attributes
    ----------
    steps
        Every set that was tried and kept, growing, each attacked with the effort that single layers were.
    confirmed
        The last set under the full battery of the audit, on the clip of which most was left; None where no set came so
        far.
    reason
        Why there is no answer; empty where there is one.
    probes
        The clips that were attacked under the full battery.
    """

    steps: tuple[Withheld, ...] = ()
    confirmed: Withheld | None = None
    reason: str = ""
    probes: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether the full battery found no recognisable picture without the last set."""
        return self.confirmed is not None and not self.reason


@counting()
def withhold(
    found: LayerAttacks, audited: Audited, preset: Preset, seconds: float, display: Display, ceiling: Ceiling
) -> Withholding:
    """Grow a set of layers until attacks on the rest of the update recover no recognisable picture.

    Every layer whose gradient alone gives one away belongs to any such set. The others are added one by one, each time
    the one of a few without which attacks recover least. A set that passes is attacked by the full battery with the
    work that the audit had for a clip, whatever is left here, on the other clips too, and grows on where that finds
    more. Where the effort of single layers shows no picture of the whole update, and the audit did, every set meets
    the audit's.
    """
    clock = Clock(seconds)
    if not _shown(found.whole) and not audited.shown:
        return Withholding(reason="no attack recovered a recognisable picture from the whole update")
    full = EqualEffort(
        preset=preset,
        seconds=max(found.effort.seconds, *audited.seconds.values(), 0.0),
        steps=preset.steps,
        own=audited.seconds,
    )
    effort, order, tries = (found.effort, _cost, _TRIED) if _shown(found.whole) else (full, _least, 1)
    chosen = [one for one in found.layers if _shown(one.alone)]
    others = sorted((one for one in found.layers if one not in chosen), key=lambda one: order(one, one.without))
    if not chosen and others:
        chosen, others = others[:1], others[1:]
    steps: list[Withheld] = []
    left = _attack(found, chosen, effort, display)
    while left is not None:
        steps.append(left)
        if not _shown(left.left):
            first = left if effort is full else _attack(found, chosen, full, display)
            confirmed = _worst(found, first, audited.others, chosen, full, display)
            if confirmed is None:
                return Withholding(steps=tuple(steps), reason="the full battery could not be run on the rest")
            if not _shown(confirmed.left):
                clips = (found.subject.probe.name, *(subject.probe.name for subject in audited.others))
                return Withholding(steps=tuple(steps), confirmed=confirmed, probes=clips)
        late = ceiling.too_late("layers", "layers to keep back", effort.seconds * tries)
        if clock.left <= 0.0 or late is not None:
            return Withholding(steps=tuple(steps), reason="the work ended before a set was found")
        grow = [partial(_attack, found, [*chosen, one], effort, display) for one in others[:tries]]
        make_ahead([Task(run=run, seconds=effort.seconds) for run in grow], display, ceiling)
        tried = [(one, run()) for one, run in zip(others, grow, strict=False)]
        grown = [(one, made) for one, made in tried if made is not None]
        if not grown:
            break
        best, left = min(grown, key=lambda pair: order(pair[0], pair[1].left))
        chosen, others = [*chosen, best], [one for one in others if one is not best]
    return Withholding(steps=tuple(steps), reason=_no_set(found))


def _attack(
    found: LayerAttacks, kept_back: Sequence[LayerAttack], effort: EqualEffort, display: Display
) -> Withheld | None:
    """Attack the update without these layers; None where nothing of it would be left."""
    layers = tuple(one.layer for one in kept_back)
    gone = {name for layer in layers for name in layer.parameters}
    rest = [name for name in found.subject.context.protocol.sent if name not in gone]
    if not rest:
        return None
    title = f"without {', '.join(layer.name for layer in layers)}"
    return Withheld(layers=layers, left=recover(found.subject, rest, effort, display, title))


def _worst(
    found: LayerAttacks,
    first: Withheld | None,
    others: Sequence[Subject],
    kept_back: Sequence[LayerAttack],
    effort: EqualEffort,
    display: Display,
) -> Withheld | None:
    """Return what was left of the clip that came back best; None where attacks could not be run on one of them."""
    worst = first
    for subject in () if _shown(None if first is None else first.left) else others:
        one = _attack(replace(found, subject=subject), kept_back, effort, display)
        if worst is None or one is None or not _ran(worst) or not _ran(one):
            return None
        worst = max(worst, one, key=lambda held: (_shown(held.left), _left(held.left)))
    return worst if worst is not None and _ran(worst) else None


def _ran(held: Withheld) -> bool:
    return isinstance(held.left, PartRecovered)


def _shown(made: PartRecovered | Skipped | None) -> bool:
    return isinstance(made, PartRecovered) and made.grade >= Grade.RECOGNISABLE


def _left(made: PartRecovered | Skipped | None) -> float:
    """dB over the best blind guess; what no attack applies to leaves that guess."""
    return max(0.0, made.score.gain) if isinstance(made, PartRecovered) else 0.0


def _cost(one: LayerAttack, left: PartRecovered | Skipped | None) -> tuple[bool, float]:
    """Order layers by what is left without them: where no picture is, the smallest first, else the least picture."""
    shown = _shown(left)
    return shown, _left(left) if shown else float(one.layer.elements)


def _least(one: LayerAttack, left: PartRecovered | Skipped | None) -> tuple[float, float]:
    """Order layers by how little is left without them, for efforts at which nothing of it is a picture."""
    return _left(left), float(one.layer.elements)


def _no_set(found: LayerAttacks) -> str:
    if len(found.layers) < found.of:
        return f"none was found among the {len(found.layers)} of {found.of} layers that were attacked"
    return "every layer would have to be kept back: what is left always gave a recognisable picture"
