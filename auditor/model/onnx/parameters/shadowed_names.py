"""Two values of one name in an ONNX graph, told apart by what the exporter recorded.

PyTorch's dynamo exporter writes such files when a buffer has the name of an operation, such as `index`. It also
records, for every node, the line of the program that the node stands for, and there the two are spelled differently.
"""

import re
from collections.abc import Iterable

from onnx import GraphProto, NodeProto

LINE = "pkg.torch.onnx.fx_node"
ORIGINAL = "pkg.torch.onnx.original_node_name"
LONGEST_LINE = 20_000
TOKEN = re.compile(r"%(\w+)")


def separate(graph: GraphProto) -> None:
    """Rename, in place, results of nodes that have the name of an initializer, where every reader is certain.

    Names that cannot be told apart stay as they are.
    """
    initializers = {tensor.name for tensor in graph.initializer}
    taken = initializers | {name for node in graph.node for name in node.output}
    twice = [name for name in initializers if any(name in node.output for node in graph.node)]
    for name in twice:
        original = next(
            (_entry(value.metadata_props, ORIGINAL) for value in graph.value_info
             if value.name == name and _entry(value.metadata_props, ORIGINAL)), ""
        )  # fmt: skip
        fresh = next(text for i in range(len(taken) + 1) if (text := f"{name}_result_{i}") not in taken)
        choices = _choices(graph, name, original)
        if choices is None:
            continue
        taken.add(fresh)
        for node, of_a_node in choices:
            for place, read in enumerate(node.input):
                if read == name and of_a_node:
                    node.input[place] = fresh
        for node in graph.node:
            for place, written in enumerate(node.output):
                if written == name:
                    node.output[place] = fresh
        for value in graph.output:
            if value.name == name:
                value.name = fresh
        for index in reversed(range(len(graph.value_info))):
            value = graph.value_info[index]
            if value.name == name and not _entry(value.metadata_props, ORIGINAL):
                del graph.value_info[index]


def _choices(graph: GraphProto, name: str, original: str) -> list[tuple[NodeProto, bool]] | None:
    """Return every reader of a name, with True where it reads the result of a node; None when one is uncertain."""
    writers = [index for index, node in enumerate(graph.node) if name in node.output]
    if not original or original == name or len(writers) != 1:
        return None
    found = []
    for index, node in enumerate(graph.node):
        if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
            return None  # what a nested graph captures has no line of its own
        if name not in node.input:
            continue
        line = _entry(node.metadata_props, LINE)
        arguments = set(TOKEN.findall(line.partition(" = ")[2])) if len(line) <= LONGEST_LINE else set()
        as_initializer, as_result = original in arguments, name in arguments
        if as_initializer == as_result or (as_result and index <= writers[0]):
            return None
        found.append((node, as_result))
    return found


def _entry(entries: Iterable[object], key: str) -> str:
    return next((str(entry.value) for entry in entries if entry.key == key), "")  # type: ignore[attr-defined]
