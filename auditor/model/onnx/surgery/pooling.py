"""What stands before a graph's head: an average, or all positions flattened."""

from onnx import ModelProto, NodeProto, helper

from auditor.model.onnx.surgery.graph_parts import constant, head, insert, shapes, way_to
from auditor.model.onnx.surgery.refit import refit
from auditor.model.surgery.refusal import refused

_FLATTENING = ("Flatten", "Reshape")


def change_pooling(model: ModelProto, value: str, seed: int) -> str:
    """Flatten where the graph averages before its head, or average where it flattens; the head is drawn anew.

    Raises
    ------
    UsageError
        The graph does so already, or no operator tells where it does.
    """
    change, graph = f"pooling={value}", model.graph
    node = head(graph)
    if node is None:
        raise refused(change, "no linear head stands behind the last convolution")
    known, way = shapes(model), way_to(graph, node.input[0])
    pool = next((n for n in way if _averages(model, n, known)), None)
    flat = next((n for n in way if n.op_type in _FLATTENING and _positions(known.get(n.input[0], ())) > 1), None)
    if value == "flatten":
        if pool is None:
            raise refused(change, "it flattens already" if flat is not None else "no operator averages all positions")
        source, new = pool.input[0], []
    else:
        if flat is None:
            raise refused(change, "it averages already" if pool is not None else "no operator flattens all positions")
        source = f"{flat.input[0]}_averaged"
        new = [helper.make_node("GlobalAveragePool", [flat.input[0]], [source])]
    into = f"{node.input[0]}_flat"
    new.append(helper.make_node("Flatten", [source], [into], axis=1))
    insert(graph, node, new)
    changed = head(graph)
    assert changed is not None
    changed.input[0] = into
    _drop_unread(model)
    made = refit(model, change, seed)
    if not made:
        raise refused(change, "no head reads what is pooled")
    return f"{value} before {made}, drawn anew"


def _averages(model: ModelProto, node: NodeProto, known: dict[str, tuple[int, ...]]) -> bool:
    """Tell whether a node averages all positions of a feature map (clip, channel, position, …)."""
    shape = known.get(node.input[0], ()) if node.input else ()
    if _positions(shape) < 2:
        return False
    if node.op_type == "GlobalAveragePool":
        return True
    if node.op_type != "ReduceMean":
        return False
    held = next((list(a.ints) for a in node.attribute if a.name == "axes"), None)
    given = constant(model.graph, node.input[1]) if held is None and len(node.input) > 1 else None
    axes = held if held is not None else [] if given is None else given.tolist()
    return sorted(a % len(shape) for a in axes) == list(range(2, len(shape)))


def _positions(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape[2:]:
        count *= size
    return count if len(shape) > 2 else 0


def _drop_unread(model: ModelProto) -> None:
    """Take out nodes that nothing reads any more."""
    graph = model.graph
    while True:
        read = {v for node in graph.node for v in node.input} | {v.name for v in graph.output}
        kept = [node for node in graph.node if any(v in read for v in node.output)]
        if len(kept) == len(graph.node):
            return
        del graph.node[:]
        graph.node.extend(kept)
