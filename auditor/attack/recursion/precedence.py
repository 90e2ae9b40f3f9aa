"""Whether the recursion through graphs is worth beginning, and where the one for nets of one way is the stronger."""

from auditor.attack.recursion.call_graph import CallGraph, trace_client
from auditor.attack.recursion.head_gradient import gradient_at_head
from auditor.attack.recursion.layer_inputs import NO_HEAD
from auditor.attack.recursion.remembered_descent import descend
from auditor.records import View


def in_the_way(view: View) -> str | None:
    """Say in one clause why a descent through the graph would tell nothing, or less than `layer-recursion`; else None.

    Takes two forward passes: nets that mix values right below the head (LayerNorm, attention) are not planned for.
    """
    graph = trace_client(view)
    if graph is None:
        return "the model's calls do not repeat its answer"
    if _passes(view, graph):
        return "layer-recursion passes this net and uses more of the update"
    head = gradient_at_head(view, graph)
    if head is None:
        return NO_HEAD
    mixes = _ends_with(graph, head[0])
    return None if mixes is None else f"nothing below the head follows exactly: {mixes} mixes values that are not known"


def _ends_with(graph: CallGraph, head: int) -> str | None:
    """Return the first call below the head that no gradient passes, where no rectifier lies before it."""
    live = set(graph.calls[head].inputs)
    for call in reversed(graph.calls[:head]):
        if not live.intersection(call.outputs):
            continue
        if graph.rectifies(call):
            return None
        if call.weight is None and not graph.rearranges(call) and not graph.affine(call):
            return call.name
        live.update(call.inputs)
    return None


def _passes(view: View, graph: CallGraph) -> bool:
    """Tell whether the clip takes one way through the net, and `layer-recursion` gets below the head on it.

    It then matches the gradients below as well, which the recursion through graphs leaves aside.
    """
    if not _one_way(graph):
        return False
    found = descend(view)
    return not isinstance(found, str) and (len(found.exact) > 1 or found.deepest.side == "output" or not found.ended)


def _one_way(graph: CallGraph) -> bool:
    """Tell whether every call reads one value and every value is read by one call, of those that reach the logits."""
    wanted, read = {graph.logits}, set[int]()
    for call in reversed(graph.calls):
        if not wanted.intersection(call.outputs):
            continue
        if len(call.inputs) != 1 or call.inputs[0] in read:
            return False
        read.add(call.inputs[0])
        wanted.add(call.inputs[0])
    return True
