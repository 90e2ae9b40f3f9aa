"""Where a descent through a graph starts: the gradient at the output of the Linear that the whole clip passes."""

import torch
from torch import Tensor

from auditor.attack.closed_form.linear_input import bias_gradient, recover_linear_input
from auditor.attack.recursion.batch_head import gradients_of_clips
from auditor.attack.recursion.call_graph import Call, CallGraph
from auditor.records import Layer, View

# A gradient of rank one, and bisections for its scale.
_RANK_ONE, _HALVINGS = 1e-4, 200
# Rows that an average counts alike are the same in float64.
_SAME = 1e-12


def gradient_at_head(view: View, graph: CallGraph) -> tuple[int, Tensor] | None:
    """Return the first Linear that the whole clip passes as one row, and the gradient at its output."""
    owners = {name: layer for layer in view.target.layers for name in layer.parameters}
    for place, call in enumerate(graph.calls):
        layer = owners.get(call.weight or "")
        if layer is None or layer.kind != "linear" or _reaches(graph, place):
            continue
        if graph.shapes[0][0] > 1:
            if call.outputs[0] != graph.logits or call.weight not in view.update.gradients:
                continue
            told = gradients_of_clips(view, graph, call)
            return None if told is None else (place, told)
        averaged = _behind_average(view, graph, place, layer)
        if averaged is not None:
            return place, averaged
        found = recover_linear_input(view, layer)
        count = torch.Size(graph.shapes[call.inputs[0]]).numel()
        if found is None and call.weight in view.update.gradients and call.outputs[0] == graph.logits:
            output = _without_bias(view, graph, call)
            if output is not None:
                return place, output
        if found is None or found.weight != call.weight or found.value.numel() != count or not bool(found.value.any()):
            continue
        gradient = graph.operation(call).oriented(view.update.gradients[found.weight].double())
        output = gradient @ found.value / found.value.square().sum()
        return place, output.reshape(graph.shapes[call.outputs[0]])
    return None


def _behind_average(view: View, graph: CallGraph, place: int, layer: Layer) -> Tensor | None:
    """Return the gradient at the output of a head that reads several rows, whose logits are then averaged.

    Its rows are the same, so each is its share of the bias's gradient.
    """
    call = graph.calls[place]
    shape = graph.shapes[call.outputs[0]]
    rows = torch.Size(shape[:-1]).numel()
    sent = view.update.gradients.get(call.weight or "")
    if rows == graph.shapes[0][0] or sent is None:
        return None
    drawn = torch.randn(graph.shapes[graph.logits], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    cotangents = {graph.logits: drawn}
    for above in reversed(graph.calls[place + 1 :]):
        mine = {n: cotangents.pop(n) for n in above.outputs if n in cotangents}
        if not mine:
            continue
        if above.weight is not None or not (graph.rearranges(above) or graph.affine(above)):
            return None
        for n, pulled in graph.pull(above, mine).items():
            cotangents[n] = cotangents[n] + pulled if n in cotangents else pulled
    pulled_rows = cotangents[call.outputs[0]].reshape(rows, -1)
    if float((pulled_rows - pulled_rows[:1]).abs().max()) > _SAME * float(pulled_rows.abs().max()):
        return None
    bias = bias_gradient(view, layer, sent)
    return None if bias is None or len(bias) != shape[-1] else (bias / rows).expand(shape).clone()


def _without_bias(view: View, graph: CallGraph, call: Call) -> Tensor | None:
    """Return the gradient at the logits where no bias tells it: dW = (p - e_y) x' leaves a scale open, p = p(x) not.

    Exporters leave a bias out that is zero. Of cross-entropy only, and of features that are nowhere negative, as behind
    a rectifier: their sign is then known.
    """
    scale = view.scale
    if view.knowledge.loss != "cross-entropy" or scale is None or not call.weight:
        return None
    gradient = graph.operation(call).oriented(view.update.gradients[call.weight].double()) / scale
    _, s, v = torch.linalg.svd(gradient, full_matrices=False)
    if len(s) < 2 or float(s[1]) > _RANK_ONE * float(s[0]) or float(s[0]) == 0.0:
        return None
    towards = v[0] if float(v[0].sum()) > 0.0 else -v[0]
    error = gradient @ towards
    label = int(error.argmin())

    def off(size: float) -> float:
        given = (size * towards).reshape(graph.shapes[call.inputs[0]])
        with torch.no_grad():
            p = call({call.inputs[0]: given})[0].flatten().softmax(0)
        p[label] -= 1.0
        return float(p.norm() - error.norm() / size)

    low, high = 1e-6, 1e6
    if not off(low) < 0.0 < off(high):
        return None
    for _ in range(_HALVINGS):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if off(middle) < 0.0 else (low, middle)
    output = error / low
    return (scale * output).reshape(graph.shapes[call.outputs[0]])


def _reaches(graph: CallGraph, without: int) -> bool:
    """Tell whether the clip reaches the logits past one call."""
    live = {0}
    for place, call in enumerate(graph.calls):
        if place != without and live.intersection(call.inputs):
            live.update(call.outputs)
    return graph.logits in live
