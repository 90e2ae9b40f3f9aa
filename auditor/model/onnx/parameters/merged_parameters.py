"""Parameters that an exporter merged because they held equal numbers, taken apart again where the file proves it.

Fresh norms all hold ones and zeros, so exporters write one initializer for all of them, and its gradient would be a
sum. Layers that share a parameter on purpose look the same in the numbers. Two records tell them apart: dynamo writes
beside every node the line of the program that it stands for, with the parameters that the line reads; and the
TorchScript exporter, which lists a shared parameter once, gives a merged one back its name by an Identity. What
neither record settles stays one parameter and is told.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from auditor.model.layers import SCOPES, scope
from auditor.model.onnx.graph import QUOTED, Graph, Node
from auditor.model.onnx.parameters.constants import INVENTED, SPELLED
from auditor.model.onnx.parameters.shadowed_names import LINE, LONGEST_LINE, TOKEN
from auditor.model.onnx.parameters.trainable_constants import WEIGHT_SLOTS
from auditor.text import printable

SHOWN = 3
COMBINING = ("Add", "Mul", "Sub", "Div", "Concat", "Where", "Pow")


def taken_apart(graph: Graph) -> tuple[Graph, tuple[str, ...]]:
    """Return the graph with merged parameters of its own for every layer, and sentences for the report."""
    constants, kinds = dict(graph.constants), dict(graph.kinds)
    apart: list[str] = []
    alike: list[tuple[str, str]] = []
    readers: dict[str, dict[str, Node]] = {}
    repeated: dict[str, str] = {}
    paths = _paths(graph)
    nodes: list[Node] = []
    for node in (_own_statistics(node, constants) for node in graph.nodes):
        if node.operator == "Identity" and not node.domain and _named_twice(node, graph):
            source, name = node.inputs[0], node.outputs[0]
            constants[name] = constants[source].clone()
            apart.append(name)
            continue
        if node.operator == "Identity" and not node.domain and node.inputs[0] in graph.constants:
            repeated[node.outputs[0]] = node.inputs[0]
        inputs = list(node.inputs)
        for name in _weights(replace(node, inputs=tuple(repeated.get(n, n) for n in inputs)), graph.constants):
            fresh = _other_parameter(node, name, graph, paths)
            if fresh is None:
                readers.setdefault(name, {}).setdefault(_place(node), node)
            elif not fresh:
                alike.append((name, _place(node)))
            else:
                if fresh not in constants:
                    constants[fresh] = constants[name].clone()
                    kinds.update({fresh: kinds[name]} if name in kinds else {})
                    apart.append(fresh)
                inputs = [fresh if read == name else read for read in inputs]
        nodes.append(replace(node, inputs=tuple(inputs)) if inputs != list(node.inputs) else node)
    for name, places in readers.items():  # what exporters transposed first has no name of its own to compare
        if len(places) > 1 and INVENTED.match(name) and not any(LINE in node.metadata for node in places.values()):
            alike.append((name, list(places)[1]))
    notes = [*_notes(apart, alike), *_left_out(graph, paths, apart)]
    return replace(
        graph, nodes=tuple(nodes), constants=constants, kinds=kinds, initializers=graph.initializers | {*apart}
    ), tuple(notes)


def _own_statistics(node: Node, constants: dict[str, Tensor]) -> Node:
    """Give running statistics a constant of their own where they share one with what is trained.

    Fresh ones are zeros and ones, as shifts and scales are.
    """
    if node.operator != "BatchNormalization" or node.domain or len(node.inputs) < 5:
        return node
    inputs = list(node.inputs)
    for place, word in ((3, "running_mean"), (4, "running_var")):
        if inputs[place] in inputs[:3] and inputs[place] in constants:
            own = f"{inputs[place]} ({word})"
            constants[own] = constants[inputs[place]].clone()
            inputs[place] = own
    return replace(node, inputs=tuple(inputs))


def _weights(node: Node, constants: dict[str, Tensor]) -> list[str]:
    """Return the float vectors and matrices that a node reads as weights, each once."""
    places = WEIGHT_SLOTS.get(node.operator, ()) if not node.domain else ()
    if node.operator in COMBINING and not node.domain:
        places = tuple(range(len(node.inputs)))
    names = dict.fromkeys(node.inputs[place] for place in places if place < len(node.inputs))
    return [name for name in names if name in constants and _is_weight(constants[name])]


def _other_parameter(node: Node, name: str, graph: Graph, paths: Mapping[str, str]) -> str | None:
    """Return the name of the parameter that a node stands for where it reads another one's numbers.

    None where it reads its own, or nothing is recorded; an empty text where the record names several.
    """
    sources = [source for source in graph.folded.get(name, ()) if not INVENTED.match(source)]
    own = [graph.originals[name]] if name in graph.originals else [_spelling(source) for source in sources]
    read = _parameters_read(node)
    if not own or not read or any(token in own for token in read):
        return None
    elsewhere = {graph.originals.get(other) for other in node.inputs if other != name}
    left = [token for token in read if token not in elsewhere]
    doubtful = [n for n in node.inputs if n in graph.originals and graph.originals[n] not in read]
    if len(left) == len(doubtful) > 1 and name in doubtful:  # arguments of a line and inputs of its node: one order
        left = [left[doubtful.index(name)]]
    elif len(left) > 1:
        kinds = {name.rpartition(".")[2], "bias" if graph.constants[name].dim() == 1 else "weight"}
        left = [token for token in left if any(token.endswith(f"_{kind}") for kind in kinds)]
    if len(left) != 1:
        return "" if name in graph.originals else None
    return paths.get(left[0], left[0][2:]) if name in graph.originals else f"{name}_{left[0][2:]}"


def _spelling(name: str) -> str:
    return "p_" + name.replace(".", "_").lower()


def _paths(graph: Graph) -> dict[str, str]:
    """Return the paths of parameters by their spelling in the lines, as far as the names of modules tell.

    `p_blocks_1_norm_weight` is `blocks.1.norm.weight` where there is a module `blocks.1.norm`.
    """
    modules: dict[str, str] = {}
    read: dict[str, None] = {}
    for node in graph.nodes:
        text = node.metadata.get(SCOPES, "")
        found = QUOTED.findall(text) if len(text) <= LONGEST_LINE else []
        modules.update((_spelling(module), module) for module in found if module)
        read.update(dict.fromkeys(_parameters_read(node)))
    modules.update((_spelling(n.rpartition(".")[0]), n.rpartition(".")[0]) for n in graph.originals if "." in n)
    paths = {}
    for token in read:
        parts = token.split("_")
        for end in range(len(parts) - 1, 1, -1):
            module = modules.get("_".join(parts[:end]))
            if module is not None:
                paths[token] = f"{module}.{'_'.join(parts[end:])}"
                break
    return paths


def _parameters_read(node: Node) -> list[str]:
    """Return the parameters, as the exported program spells them, that the line of a node reads."""
    line = node.metadata.get(LINE, "")
    if len(line) > LONGEST_LINE:
        return []
    return [token for token in TOKEN.findall(line.partition(" = ")[2]) if token.startswith("p_")]


def _left_out(graph: Graph, paths: Mapping[str, str], apart: Sequence[str]) -> Iterator[str]:
    """Tell of parameters that the exported program reads and the file does not hold: zeros added, ones multiplied."""
    held = {*graph.originals.values(), *(_spelling(name) for names in graph.folded.values() for name in names)}
    unsure: set[str] = set()
    read: dict[str, None] = {}
    for node in graph.nodes:
        tokens = _parameters_read(node) if graph.originals else []
        read.update(dict.fromkeys(tokens))
        if any(name in graph.folded or INVENTED.match(name) for name in node.inputs if name in graph.constants):
            unsure.update(tokens)  # it may be part of what was computed in advance
    lost = [paths.get(token, token[2:]) for token in read if token not in held and token not in unsure]
    lost = [name for name in lost if name not in apart]
    if lost:
        shown = ", ".join(f"'{printable(name, 60)}'" for name in lost[:SHOWN])
        more = f" and {len(lost) - SHOWN} more" if len(lost) > SHOWN else ""
        yield (
            f"The exporter left out {shown}{more}, or merged it into something else: its gradient is missing here. "
            "An export with optimize=False keeps it."
        )


def _place(node: Node) -> str:
    """Return the module that a node belongs to, as far as the exporter says."""
    return scope(node) or node.name.rpartition("/")[0].strip("/")


def _named_twice(node: Node, graph: Graph) -> bool:
    """Tell whether an Identity gives one parameter the name of another, as the TorchScript exporter writes merging."""
    source, name = node.inputs[0], node.outputs[0]
    chosen = all(SPELLED.match(text) and not INVENTED.match(text) for text in (source, name))
    return chosen and source in graph.constants and _is_weight(graph.constants[source]) and name not in graph.outputs


def _is_weight(value: Tensor) -> bool:
    return value.is_floating_point() and value.numel() > 1


def _notes(apart: Sequence[str], alike: Sequence[tuple[str, str]]) -> list[str]:
    notes = []
    if apart:
        shown = ", ".join(f"'{printable(name, 60)}'" for name in apart[:SHOWN])
        more = f" and {len(apart) - SHOWN} more" if len(apart) > SHOWN else ""
        notes.append(
            f"The exporter had merged {shown}{more} with equal parameters of other layers; each is its own again."
        )
    if alike:
        name, place = (printable(text, 60) for text in alike[0])
        more = f", and so do {len(alike) - 1} more" if len(alike) > 1 else ""
        notes.append(
            f"'{name}' serves '{place}' too and is one parameter here{more}: right if the layers share it, "
            "a sum of gradients if they only began alike. An export with dynamo=True, optimize=False keeps them apart."
        )
    return notes
