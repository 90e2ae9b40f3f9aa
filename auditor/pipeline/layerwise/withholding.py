"""Which layers to keep back: a greedy search for a set without which no attack finds a recognisable picture."""

from collections.abc import Sequence

from auditor.attack import Preset
from auditor.pipeline.layerwise.partial_update import EqualEffort, PartRecovered, recover
from auditor.pipeline.layerwise.single_layers import LayerAttack, LayerAttacks
from auditor.pipeline.progress import Display
from auditor.records import Ceiling, Clock, Layer, Skipped, counting, record
from auditor.score import Grade

# How many layers are tried at each growth of the set: those without which least was left.
_TRIED = 3
# Share of the work that each search may take which confirms a set: about two of them meet it.
_CONFIRMING = 0.25


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
        The last set under the full battery of the audit; None where no set came so far.
    reason
        Why there is no answer; empty where there is one.
    """

    steps: tuple[Withheld, ...] = ()
    confirmed: Withheld | None = None
    reason: str = ""

    @property
    def holds(self) -> bool:
        """Whether the full battery found no recognisable picture without the last set."""
        return self.confirmed is not None and not self.reason


@counting()
def withhold(found: LayerAttacks, preset: Preset, seconds: float, display: Display, ceiling: Ceiling) -> Withholding:
    """Grow a set of layers until attacks on the rest of the update recover no recognisable picture.

    Every layer whose gradient alone gives one away belongs to any such set. The others are added one by one, each time
    the one of a few without which attacks recover least. A set that passes is attacked by the full battery of the
    audit, and grows on where that finds more.
    """
    clock = Clock(seconds)
    if not _shown(found.whole):
        return Withholding(reason="no attack of this effort recovered a recognisable picture from the whole update")
    chosen = [one for one in found.layers if _shown(one.alone)]
    others = sorted((one for one in found.layers if one not in chosen), key=lambda one: _cost(one, one.without))
    if not chosen and others:
        chosen, others = others[:1], others[1:]
    full = EqualEffort(preset=preset, seconds=max(_CONFIRMING * seconds, found.effort.seconds), steps=preset.steps)
    steps: list[Withheld] = []
    left = _attack(found, chosen, found.effort, display)
    while left is not None:
        steps.append(left)
        if not _shown(left.left):
            confirmed = _attack(found, chosen, full, display)
            if confirmed is None or isinstance(confirmed.left, Skipped):
                return Withholding(steps=tuple(steps), reason="the full battery could not be run on the rest")
            if not _shown(confirmed.left):
                return Withholding(steps=tuple(steps), confirmed=confirmed)
        late = ceiling.too_late("layers", "layers to keep back", found.effort.seconds * _TRIED)
        if clock.left <= 0.0 or late is not None:
            return Withholding(steps=tuple(steps), reason="the work ended before a set was found")
        tried = [(one, _attack(found, [*chosen, one], found.effort, display)) for one in others[:_TRIED]]
        grown = [(one, made) for one, made in tried if made is not None]
        if not grown:
            break
        best, left = min(grown, key=lambda pair: _cost(pair[0], pair[1].left))
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


def _shown(made: PartRecovered | Skipped | None) -> bool:
    return isinstance(made, PartRecovered) and made.grade >= Grade.RECOGNISABLE


def _left(made: PartRecovered | Skipped | None) -> float:
    """dB over the best blind guess; what no attack applies to leaves that guess."""
    return max(0.0, made.score.gain) if isinstance(made, PartRecovered) else 0.0


def _cost(one: LayerAttack, left: PartRecovered | Skipped | None) -> tuple[bool, float]:
    """Order layers by what is left without them: where no picture is, the smallest first, else the least picture."""
    shown = _shown(left)
    return shown, _left(left) if shown else float(one.layer.elements)


def _no_set(found: LayerAttacks) -> str:
    if len(found.layers) < found.of:
        return f"none was found among the {len(found.layers)} of {found.of} layers that were attacked"
    return "every layer would have to be kept back: what is left always gave a recognisable picture"
