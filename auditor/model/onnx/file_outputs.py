"""An ONNX file with several outputs: keep the one that the loss reads, and what leads to it."""

from onnx import GraphProto, ModelProto, NodeProto, TensorProto

from auditor.model.output import chosen
from auditor.text import printable

FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE, TensorProto.UNDEFINED)
SHOWN = 8


def keep_output(model: ModelProto, wanted: str | None) -> list[str]:
    """Leave one output in a file, and only the nodes that it depends on; return sentences about what went.

    Raises
    ------
    UsageError, NotAuditable
        See `output.chosen`.
    """
    names = tuple(value.name for value in model.graph.output)
    if len(names) == 1 and wanted is None:
        return []
    floats = tuple(value.name for value in model.graph.output if value.type.tensor_type.elem_type in FLOATS)
    name = chosen(names, wanted, floats)
    if len(names) == 1:
        return []
    kept = next(value for value in model.graph.output if value.name == name)
    copy = type(kept)()
    copy.CopyFrom(kept)
    del model.graph.output[:]
    model.graph.output.append(copy)
    dropped = _prune(model.graph, name)
    others = [printable(other, 40) for other in names if other != name]
    shown = ", ".join(others[:SHOWN]) + (", ..." if len(others) > SHOWN else "")
    return [
        f"Of the file's {len(names)} outputs the loss reads '{printable(name, 60)}' alone (not {shown}); {dropped} "
        "nodes that lead to the others only, and their parameters, are left out. Give --model-output to choose another."
    ]


def _prune(graph: GraphProto, output: str) -> int:
    """Delete the nodes that the output does not depend on and return how many they were."""
    producers = {name: i for i, node in enumerate(graph.node) for name in node.output if name}
    needed: set[int] = set()
    pending = [output]
    while pending:
        index = producers.get(pending.pop())
        if index is not None and index not in needed:
            needed.add(index)
            pending += _reads(graph.node[index])
    kept = [graph.node[i] for i in sorted(needed)]
    dropped = len(graph.node) - len(kept)
    if dropped:
        copies = []
        for node in kept:
            copy = NodeProto()
            copy.CopyFrom(node)
            copies.append(copy)
        del graph.node[:]
        graph.node.extend(copies)
    return dropped


def _reads(node: NodeProto) -> list[str]:
    """Return the names that a node reads, those that its subgraphs capture included."""
    names = list(node.input)
    for attribute in node.attribute:
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            names += [name for inner in graph.node for name in _reads(inner)]
            names += [value.name for value in graph.output]
    return names
