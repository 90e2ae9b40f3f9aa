"""Layers that the structure of a network suggests to keep back: where attacks begin, and what they pass through."""

from collections.abc import Sequence

from auditor.pipeline.context import Context
from auditor.records import Layer

# Parameters of these kinds are added to what the first layer makes of the clip, and tell its gradient.
_POSITIONS = "position-embedding"
_PRODUCTS = ("conv1d", "conv2d", "conv3d", "linear", "recurrent", "embedding")


def ends(context: Context) -> tuple[tuple[Layer, ...], ...]:
    """Return the sets at the ends of a network, fewest parameters first.

    The head, from which recursions begin; what reads the clip, from which closed forms read patches; the table of
    positions beside it; and the two ends together.
    """
    groups, positions = cuts(context), _positions(context)
    if not groups:
        return (positions,) if positions else ()
    head, entry = groups[0], groups[-1]
    sets = [head, entry, positions, (*entry, *positions), (*head, *entry), (*head, *entry, *positions)]
    return tuple(sorted(dict.fromkeys(unique(one) for one in sets if one), key=size))


def cuts(context: Context) -> tuple[tuple[Layer, ...], ...]:
    """Return groups of layers that read the same value, from the head to the clip.

    Without one of them, whoever solves value after value from the head down cannot pass it: a group of several is the
    first convolution of a residual block and its shortcut.
    """
    groups: dict[tuple[str, int], list[Layer]] = {}
    for layer in sent_layers(context):
        if layer.kind in _PRODUCTS:
            groups.setdefault(("at", layer.index) if layer.reads is None else ("reads", layer.reads), []).append(layer)
    return tuple(tuple(group) for group in reversed(groups.values()))


def chains(context: Context) -> tuple[tuple[tuple[Layer, ...], ...], ...]:
    """Return two chains of sets that grow by a cut each: from the head down, and from the clip up with positions.

    Each leaves something that is sent.
    """
    groups, first, all_sent = cuts(context), _positions(context), len(sent_layers(context))
    down = [unique(sum(groups[:k], ())) for k in range(1, len(groups) + 1)]
    up = [unique((*first, *sum(groups[k:], ()))) for k in range(len(groups) - 1, -1, -1)]
    return tuple(one for one in down if len(one) < all_sent), tuple(one for one in up if len(one) < all_sent)


def granted(context: Context, kept_back: Sequence[Layer]) -> tuple[str, ...]:
    """Return the bias of the head, if it is kept back and clips are sent one by one.

    Its gradient is p - e_y: what the client's model answered, and the label, which attackers are taken to know. It says
    nothing else of a clip, and whoever guesses it begins a recursion without it. An attack on what is left is given it,
    so that no set holds for the sake of a few numbers that may be guessed.
    """
    if context.protocol.batch > 1:
        return ()
    mine = [name for layer in kept_back for name in layer.parameters if name in context.protocol.sent]
    last = [name for layer in sent_layers(context)[-2:] for name in layer.parameters if name in mine]
    values = context.target.parameters
    biases = [n for n in last if values[n].squeeze().dim() == 1 and values[n].numel() == context.target.classes]
    return tuple(biases[-1:])


def unique(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """Return the layers in the order of the network, each once."""
    return tuple({layer.index: layer for layer in sorted(layers, key=lambda one: one.index)}.values())


def size(layers: Sequence[Layer]) -> int:
    """Return how many numbers they hold."""
    return sum(layer.elements for layer in layers)


def _positions(context: Context) -> tuple[Layer, ...]:
    return tuple(layer for layer in sent_layers(context) if layer.kind == _POSITIONS)


def sent_layers(context: Context) -> list[Layer]:
    """Return the layers of which something is sent, in the order of the network."""
    sent = frozenset(context.protocol.sent)
    return [layer for layer in context.target.layers if sent.intersection(layer.parameters)]
