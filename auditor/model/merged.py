"""Parameters that an exporter merged because they held equal numbers, taken apart again where that is certain.

Fresh norms all hold ones and zeros, so exporters write one initializer for all of them, and its gradient would be a
sum. A vector of one repeated number that belongs to layers of different names was merged; a matrix of different numbers
may just as well be tied on purpose, so that stays one parameter and is told.
"""

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from auditor.model.constants import INVENTED
from auditor.model.graph import Graph, Node
from auditor.model.layers import SCOPES, scope
from auditor.model.trainable import WEIGHT_SLOTS
from auditor.text import printable

SHOWN = 3


def taken_apart(graph: Graph) -> tuple[Graph, tuple[str, ...]]:
    """Return the graph with merged parameters of its own for every layer, and sentences for the report."""
    constants, kinds = dict(graph.constants), dict(graph.kinds)
    owners: dict[str, set[str]] = {}
    for node in graph.nodes:
        for name in _weights(node, constants):
            owners.setdefault(name, set()).add(scope(node))
    apart: list[str] = []
    alike: list[tuple[str, str]] = []
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.operator == "Identity" and not node.domain and _named_twice(node, graph):
            source, name = node.inputs[0], node.outputs[0]
            if _is_uniform(constants[source]):
                constants[name] = constants[source].clone()
                apart.append(name)
                continue
            alike.append((source, name))
        inputs = list(node.inputs)
        for name in _weights(node, constants) if SCOPES in node.metadata else ():
            path, _, leaf = name.rpartition(".")
            here = scope(node)
            if not here or here == path or path not in owners[name]:
                continue
            fresh = f"{here}.{leaf}"
            if not _is_uniform(constants[name]):
                alike.append((name, fresh))
            elif fresh not in constants or fresh in apart:
                constants.setdefault(fresh, constants[name].clone())
                kinds.update({fresh: kinds[name]} if name in kinds else {})
                apart += [fresh] if fresh not in apart else []
                inputs = [fresh if read == name else read for read in inputs]
        nodes.append(replace(node, inputs=tuple(inputs)) if inputs != list(node.inputs) else node)
    return replace(graph, nodes=tuple(nodes), constants=constants, kinds=kinds), tuple(_notes(apart, alike))


def _weights(node: Node, constants: dict[str, Tensor]) -> list[str]:
    """Return the named float vectors and matrices that a node reads as weights."""
    places = WEIGHT_SLOTS.get(node.operator, ()) if not node.domain else ()
    places = (0, 1) if node.operator in ("Add", "Mul") and not node.domain else places
    names = [node.inputs[place] for place in places if place < len(node.inputs)]
    return [n for n in names if n in constants and _is_weight(constants[n]) and "." in n and not INVENTED.match(n)]


def _named_twice(node: Node, graph: Graph) -> bool:
    """Tell whether an Identity gives one parameter the name of another, as the TorchScript exporter writes merging."""
    source, name = node.inputs[0], node.outputs[0]
    chosen = not INVENTED.match(source) and not INVENTED.match(name) and "." in name
    return chosen and source in graph.constants and _is_weight(graph.constants[source]) and name not in graph.outputs


def _is_weight(value: Tensor) -> bool:
    return value.is_floating_point() and value.numel() > 1


def _is_uniform(value: Tensor) -> bool:
    return value.dim() == 1 and bool((value == value[0]).all())


def _notes(apart: Sequence[str], alike: Sequence[tuple[str, str]]) -> list[str]:
    notes = []
    if apart:
        shown = ", ".join(f"'{printable(name, 60)}'" for name in apart[:SHOWN])
        more = f" and {len(apart) - SHOWN} more" if len(apart) > SHOWN else ""
        notes.append(
            f"The exporter had merged {shown}{more} with equal parameters of other layers; each is its own again."
        )
    if alike:
        first, second = (printable(name, 60) for name in alike[0])
        more = f", and so do {len(alike) - 1} more" if len(alike) > 1 else ""
        notes.append(
            f"'{first}' and '{second}' hold the same numbers and are one parameter here{more}: right if they are tied, "
            "a sum of gradients if they only began alike. An export with dynamo=True, optimize=False keeps them apart."
        )
    return notes
