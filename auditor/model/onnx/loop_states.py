"""Values that go through an If, Loop or Scan unchanged, as some exporters hand a recurrent layer its weights."""

from collections.abc import Iterator, Mapping, Sequence

from auditor.model.onnx.graph import Graph, Node

LONGEST_CHAIN = 64
BEFORE_STATES = 2  # a Loop reads its count and its condition first, its body the round and the condition


def carried_unchanged(nodes: Sequence[Node]) -> Mapping[str, tuple[str, ...]]:
    """Return, for every name that stands for values from elsewhere, the names of these values.

    A state that each round hands on as it came in is its initial value, inside the body and after the last round. What
    a Scan cuts into slices is made of the whole. What an If returns is what one of its branches does. Names inside
    bodies need not be unique, so one may stand for several.
    """
    found: dict[str, dict[str, None]] = {}
    for node in nodes:
        for name, source in _pairs(node):
            if name and source and name != source:
                found.setdefault(name, {})[source] = None
    return {name: tuple(sources) for name, sources in found.items()}


def followed(graph: Graph) -> Iterator[Node]:
    """Yield every node: a Loop or Scan before its body, which reads its states, an If behind its branches."""
    for node in graph.nodes:
        inner = (child for branch in node.subgraphs() for child in followed(branch))
        yield from (*inner, node) if node.operator == "If" else (node, *inner)


def varying_states(node: Node) -> Iterator[str]:
    """Yield the initial values of the states that a Loop or Scan computes anew in each round."""
    for initial, inner, handed_on, _ in _states(node):
        if not _is_same(node, inner, handed_on):
            yield initial


def _pairs(node: Node) -> Iterator[tuple[str, str]]:
    """Yield (name, the value that it stands for), inside the body and after it."""
    if node.operator == "If" and not node.domain:
        for branch in node.subgraphs():
            yield from zip(node.outputs, branch.outputs, strict=False)
        return
    for initial, inner, handed_on, final in _states(node):
        if _is_same(node, inner, handed_on):
            yield inner, initial
            yield final, initial
    body = _body(node)
    if node.operator == "Scan" and body is not None:
        count = int(node.attributes.get("num_scan_inputs", 0))
        if 0 < count <= min(len(node.inputs), len(body.inputs)):
            yield from zip(body.inputs[-count:], node.inputs[-count:], strict=True)


def _states(node: Node) -> Iterator[tuple[str, str, str, str]]:
    """Yield the names of every state: its initial value, and what it is called in the body, after a round, at last."""
    body = _body(node)
    if body is None:
        return
    if node.operator == "Loop":
        initial, inner, handed_on = node.inputs[BEFORE_STATES:], body.inputs[BEFORE_STATES:], body.outputs[1:]
    else:
        count = len(node.inputs) - int(node.attributes.get("num_scan_inputs", 0))
        initial, inner, handed_on = node.inputs[:count], body.inputs[:count], body.outputs[:count]
    final = (*node.outputs, *("" for _ in initial))
    yield from zip(initial, inner, handed_on, final, strict=False)


def _body(node: Node) -> Graph | None:
    body = node.attributes.get("body")
    return body if node.operator in ("Loop", "Scan") and not node.domain and isinstance(body, Graph) else None


def _is_same(node: Node, inner: str, handed_on: str) -> bool:
    """Tell whether what a round hands on is what came in, looked up through Identity and through loops inside."""
    body = _body(node)
    assert body is not None
    producers = {name: child for child in body.nodes for name in child.outputs if name}
    name = handed_on
    for _ in range(LONGEST_CHAIN):
        if name == inner:
            return True
        child = producers.get(name)
        if child is None:
            return False
        if child.operator == "Identity" and not child.domain and child.inputs:
            name = child.inputs[0]
            continue
        unchanged = (
            initial for initial, own, after, final in _states(child) if final == name and _is_same(child, own, after)
        )
        before = next(unchanged, None)
        if before is None:
            return False
        name = before
    return False
