"""Where the recursion for nets of one way is the stronger of the two."""

from auditor.attack.recursion.call_graph import CallGraph, trace_client
from auditor.attack.recursion.layer_inputs import descend
from auditor.records import View


def layer_recursion_passes(view: View) -> bool:
    """Tell whether the clip takes one way through the net, and `layer-recursion` gets below the head on it.

    It then matches the gradients below as well, which the recursion through graphs leaves aside.
    """
    graph = trace_client(view)
    if graph is None or not _one_way(graph):
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
