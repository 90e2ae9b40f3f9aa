"""Closed-form flags: what a layer's gradient gives away by its structure alone."""

from collections.abc import Collection, Mapping

from torch import Tensor

from auditor.exposure.adapters import adapter_flags
from auditor.records import FederatedProtocol, Layer

# What a head's gradient tells of the labels, by loss, and for one clip or several.
_LABELS = {
    ("cross-entropy", True): "the label of a single clip can be read off exactly (iDLG)",
    ("cross-entropy", False): "the labels of the batch can be estimated (iLRG)",
    ("bce", True): "every class that is present in a single clip can be read off exactly (sign of the bias gradient)",
    ("mse", True): "the label of a single clip can be solved for (weight and bias of the head)",
}


def closed_form_flags(
    layers: tuple[Layer, ...], protocol: FederatedProtocol, classes: int, parameters: Mapping[str, Tensor]
) -> dict[int, tuple[str, ...]]:
    """Return, by layer index, sentences that hold for every clip under this protocol.

    Sources: Phong et al. 2017 and Geiping et al. 2020 (one row), iDLG (label), the position-embedding identity
    dW = Delta^T X and the span of inputs, rank(dW) <= batch * rows (derived for this project).
    """
    sent = frozenset(protocol.sent)
    several = protocol.steps > 1
    flags: dict[int, list[str]] = {layer.index: [] for layer in layers}
    adapters = adapter_flags(layers, protocol, parameters)
    for layer in layers:
        if layer.index in adapters:
            flags[layer.index].append(adapters[layer.index])
        elif layer.kind == "linear" and layer.rows is not None and _weight_sent(layer, sent):
            moves = several and any(sent & set(other.parameters) for other in layers if other.index < layer.index)
            flags[layer.index] += _linear_flags(
                layer, protocol.batch, len(sent & set(layer.parameters)) > 1, protocol.steps if moves else 1
            )
        if layer.kind == "position-embedding" and protocol.batch == 1 and sent & set(layer.parameters):
            flags[layer.index].append(
                "its gradient is the gradient at every token: with a patch embedding right before it, "
                "all patches can be solved for"
            )
        if protocol.send_buffers and layer.kind == "norm":
            flags[layer.index].append(
                "if it is a BatchNorm, its buffers give mean and variance of the batch in every channel exactly"
                + (", averaged over the local steps" if several else "")
            )
    head = _head(layers, sent, classes)
    said = _LABELS.get((protocol.loss, protocol.batch == 1))
    if several and protocol.loss == "mse":
        said = None
    elif several and head is not None and protocol.loss == "cross-entropy" and len(sent & set(head.parameters)) == 1:
        said = said and said.replace("read off exactly", "estimated")
    if head is not None and said is not None:
        flags[head.index].append(said)
    return {index: tuple(found) for index, found in flags.items()}


def _weight_sent(layer: Layer, sent: Collection[str]) -> bool:
    return bool(layer.parameters) and layer.parameters[0] in sent


def _linear_flags(layer: Layer, batch: int, with_bias: bool, steps: int) -> list[str]:
    """`steps` are the local steps during which the layer's inputs change."""
    rows = (layer.rows or 0) * batch
    if rows == 1 and steps > 1:
        how = "" if with_bias else ", up to a factor"
        return [
            f"one clip sends one row through it: its input, averaged over {steps} local steps, can be estimated from "
            f"its update{how}"
        ]
    rows *= steps
    if rows == 1:
        how = "exactly" if with_bias else "up to a factor"
        return [f"one clip sends one row through it: its input can be computed {how} from its gradient"]
    width = min(layer.input_shape[-1], layer.output_shape[-1]) if layer.input_shape and layer.output_shape else 0
    if 0 < rows < width:
        return [f"the rank of its gradient is at most {rows}, below {width}: it exposes the span of its inputs"]
    return []


def _head(layers: tuple[Layer, ...], sent: Collection[str], classes: int) -> Layer | None:
    for layer in reversed(layers):
        if set(layer.parameters) & set(sent) and layer.output_shape and layer.output_shape[-1] == classes:
            return layer
    return None
