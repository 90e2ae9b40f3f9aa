"""Where a descent through a graph starts: the gradient at the output of the Linear that the whole clip passes."""

import torch
from torch import Tensor

from auditor.attack.closed_form.linear_input import bias_gradient, recover_linear_input
from auditor.attack.recursion.batch_head import gradients_of_clips
from auditor.attack.recursion.call_graph import Call, CallGraph
from auditor.attack.recursion.head_without_bias import error_without_bias
from auditor.records import Layer, View

# Rows that an average counts alike are the same in float64.
_SAME = 1e-12


def gradient_at_head(view: View, graph: CallGraph) -> tuple[int, Tensor] | None:
    """Return the first Linear that the whole clip passes as one row, and the gradient at its output."""
    owners = {name: layer for layer in view.target.layers for name in layer.parameters}
    for place, call in enumerate(graph.calls):
        layer = owners.get(call.weight or "")
        if layer is None or call.weight is None or _reaches(graph, place):
            continue
        if layer.kind != "linear":
            at_one = _at_one_position(view, graph, call, layer)
            if at_one is None:
                continue
            return place, at_one
        if graph.shapes[0][0] > 1:
            if call.outputs[0] != graph.logits or call.weight not in view.update.gradients:
                continue
            told = gradients_of_clips(view, graph, call)
            return None if told is None else (place, told)
        told = _by_bias(view, graph, call, layer)
        if told is not None:
            return place, told
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


def _at_one_position(view: View, graph: CallGraph, call: Call, layer: Layer) -> Tensor | None:
    """Return the gradient at the output of a convolution with one position, as a head may be written: its bias's."""
    shape = graph.shapes[call.outputs[0]]
    sent = view.update.gradients.get(call.weight or "")
    if layer.convolution is None or sent is None or shape[0] > 1 or torch.Size(shape).numel() != shape[1]:
        return None
    bias = bias_gradient(view, layer, sent.double())
    return None if bias is None or len(bias) != shape[1] else bias.reshape(shape)


def _by_bias(view: View, graph: CallGraph, call: Call, layer: Layer) -> Tensor | None:
    """Return the gradient at the logits of a clip where the head's weight was not sent: that of its bias is the same.

    Its features stay unknown, but behind an average the weights below tell their masks all the same.
    """
    shape = graph.shapes[call.outputs[0]]
    if call.outputs[0] != graph.logits or call.weight in view.update.gradients or torch.Size(shape[:-1]).numel() != 1:
        return None
    bias = bias_gradient(view, layer, view.target.parameters[call.weight or ""])
    return None if bias is None or len(bias) != shape[-1] else bias.reshape(shape)


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
    """Return the gradient at the logits where no bias tells it: of cross-entropy only."""
    scale = view.scale
    if view.knowledge.loss != "cross-entropy" or scale is None or not call.weight:
        return None
    shape = graph.shapes[call.inputs[0]]

    def probabilities(features: Tensor) -> Tensor:
        with torch.no_grad():
            return call({call.inputs[0]: features.reshape(shape)})[0].flatten().softmax(0)

    gradient = graph.operation(call).oriented(view.update.gradients[call.weight].double()) / scale
    error = error_without_bias(gradient, probabilities)
    return None if error is None else (scale * error).reshape(graph.shapes[call.outputs[0]])


def _reaches(graph: CallGraph, without: int) -> bool:
    """Tell whether the clip reaches the logits past one call."""
    live = {0}
    for place, call in enumerate(graph.calls):
        if place != without and live.intersection(call.inputs):
            live.update(call.outputs)
    return graph.logits in live
