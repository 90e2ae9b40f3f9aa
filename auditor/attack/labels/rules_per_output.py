"""Label restoration for losses that treat every output by itself: binary cross-entropy and the squared error."""

import torch
from torch import Tensor

from auditor.records import Label, LabelGuess, Layer, View

# A head's own equations hold to float32 rounding, about 1e-5; a layer that is not the head misses by the size of the
# answer.
_FITS = 1e-3
# Lengths of a feature vector that are tried where it is unknown: powers of ten, and how many between them.
_SCALES = (-4, 6, 4000)
# Of the two signs of a feature vector one must fit this much better than the other.
_CLEARLY = 0.1
# What float32 leaves of a residual that should be zero.
_ROUNDING = 1e-4


def separate_labels(view: View) -> LabelGuess | str:
    """Read the labels of one clip off the head's gradient, or say why no rule applies.

    The derivative of the loss by logit c is (sigmoid(z_c) - y_c) / C for binary cross-entropy, negative exactly where
    y_c = 1, and 2 (z_c - y_c) / C for the squared error, C being the number of outputs. It is the gradient of the
    head's bias, and with the weight's, d W_c = d b_c f, it gives the features f and so z = W f + b (derived for this
    project; the sign rule after iDLG, Zhao et al. 2020, arXiv 2001.02610).

    Over several local steps signs go on telling the truth, since they are the same at every step; equations hold only
    roughly, and are not called certain.
    """
    if view.update.batch != 1:
        return f"{view.update.batch} clips share the update, and no rule tells their labels apart under {_loss(view)}"
    if view.target.output.activation != "none" and _loss(view) == "mse":
        return f"the squared error behind a {view.target.output.activation} gives no equation for the labels"
    head = _head(view)
    if head is None:
        return "the update holds no gradient of a classification head that a rule could read"
    weight, bias = _sent(view, head)
    if _loss(view) == "bce":
        if bias is not None:
            return _by_sign(view, head, weight, bias)
        return _by_rows(view, head, weight) if weight is not None else "neither weight nor bias of the head is sent"
    if weight is None or bias is None or view.target.output.frames:
        return "the squared error's labels need weight and bias of a head that sees a clip as one row"
    return _by_value(view, head, weight, bias)


def _loss(view: View) -> str:
    return view.knowledge.loss


def _head(view: View) -> Layer | None:
    """Return the last layer of the forward pass, if it has one output a class."""
    read = [layer for layer in view.target.layers if layer.output_shape]
    if not read:
        return None
    last = read[-1]
    outputs = last.output_shape[1] if last.kind.startswith("conv") else last.output_shape[-1]
    fits = last.kind in ("linear", "conv1d", "conv2d", "conv3d") and outputs == view.knowledge.classes
    return last if fits else None


def _sent(view: View, head: Layer) -> tuple[str | None, str | None]:
    """Return weight and bias of the head, where they are sent and not zero."""
    names = [n for n in head.parameters if n in view.update.gradients and bool(view.update.gradients[n].any())]
    weight = next((n for n in names if view.update.gradients[n].squeeze().ndim == 2 or _single(view, n)), None)
    bias = next((n for n in names if n != weight and view.update.gradients[n].numel() == view.knowledge.classes), None)
    return weight, bias


def _single(view: View, name: str) -> bool:
    """Tell whether a parameter is the weight of a head with one output."""
    g = view.update.gradients[name]
    return view.knowledge.classes == 1 and g.ndim >= 2 and g.numel() > 1


def _rows(view: View, value: Tensor) -> Tensor:
    """Return a head's weight (or its gradient) as (class, feature), in float64."""
    classes = view.knowledge.classes
    flat = value.detach().double().squeeze()
    if flat.ndim < 2:
        return flat.reshape(classes, -1)
    return flat if flat.shape[0] == classes else flat.T


def _logits(view: View, weight: str, bias: str) -> Tensor | None:
    """Return z = W f + b with f solved from d W = d b f, or None where the gradient is not of rank one."""
    dw, db = _rows(view, view.update.gradients[weight]), view.update.gradients[bias].double().reshape(-1)
    parameters = view.target.parameters
    w, b = _rows(view, parameters[weight]), parameters[bias].detach().double().reshape(-1)
    features = db @ dw / db.square().sum()
    if float((dw - torch.outer(db, features)).norm()) > _FITS * float(dw.norm()):
        return None
    return w @ features + b


def _by_sign(view: View, head: Layer, weight: str | None, bias: str) -> LabelGuess:
    slope = view.update.gradients[bias].double().reshape(-1)
    present = slope < 0
    scale = view.scale
    if not view.one_gradient or scale is None:
        plain = view.target.output.activation == "none"
        certain = plain and bool((slope != 0.0).all())  # a weight may move too little for float32
        return LabelGuess(rule="sign of the bias gradient (BCE)", labels=(_label(view, present),), certain=certain)
    certain, slope = True, slope / scale
    if weight is not None and head.rows == 1 and view.target.output.activation == "none":
        z = _logits(view, weight, bias)
        if z is not None:
            expected = (torch.sigmoid(z) - present.to(z)) / view.knowledge.classes
            certain = float((expected - slope).abs().max()) <= _FITS
    return LabelGuess(rule="sign of the bias gradient (BCE)", labels=(_label(view, present),), certain=certain)


def _by_rows(view: View, head: Layer, weight: str) -> LabelGuess | str:
    """Without a bias d W = a f, a_c = (sigmoid(z_c) - y_c) / C, gives f but for its length, and y but for f's sign.

    Only the right sign explains the gradient: sigmoid(s W_c u + b_c) - y_c = C d W_c u / s for some length s > 0.
    """
    if view.target.output.frames or view.target.output.activation != "none":
        return "without the head's bias the labels can be read only where the head sees a clip as one row of logits"
    classes, scale = view.knowledge.classes, view.scale
    if scale is None:
        return "without the head's bias the labels can be read only where the learning rate is known"
    dw, w = _rows(view, view.update.gradients[weight]) / scale, _rows(view, view.target.parameters[weight])
    u = torch.linalg.svd(dw, full_matrices=False)[2][0]
    if float((dw - torch.outer(dw @ u, u)).norm()) > _FITS * float(dw.norm()):
        return "the head's weight gradient is not of rank one"
    parameters = view.target.parameters
    biases = [parameters[n] for n in head.parameters if n != weight and parameters[n].numel() == classes]
    offset = biases[0].detach().double().reshape(-1) if biases else torch.zeros(classes).to(dw)
    low, high, count = _SCALES
    scales = torch.logspace(low, high, count).to(dw)
    found: list[tuple[float, Tensor]] = []
    for sign in (1.0, -1.0):
        slope, projected = classes * (dw @ (sign * u)), w @ (sign * u)
        present = slope < 0
        found.append((_best_fit(slope, projected, offset, present, scales), present))
    found.sort(key=lambda pair: pair[0])
    certain = view.one_gradient and found[0][0] <= max(_CLEARLY * found[1][0], _ROUNDING) < found[1][0]
    return LabelGuess(rule="rows of the weight gradient (BCE)", labels=(_label(view, found[0][1]),), certain=certain)


def _best_fit(slope: Tensor, projected: Tensor, offset: Tensor, present: Tensor, scales: Tensor) -> float:
    """Return the least relative error of sigmoid(s w_c + b_c) - y_c = r_c / s over s, refined around a grid's best."""
    best = float("inf")
    for _ in range(3):
        wanted = torch.sigmoid(scales[:, None] * projected + offset) - present.to(slope)
        explained = slope / scales[:, None]
        errors = (wanted - explained).norm(dim=1) / explained.norm(dim=1)
        index = int(errors.argmin())
        best = min(best, float(errors[index]))
        near = scales[max(index - 1, 0)], scales[min(index + 1, len(scales) - 1)]
        scales = torch.linspace(float(near[0]), float(near[1]), len(scales)).to(scales)
    return best


def _by_value(view: View, head: Layer, weight: str, bias: str) -> LabelGuess | str:
    scale = view.scale
    if scale is None:
        return "the squared error's labels need the learning rate and the number of local steps"
    z = _logits(view, weight, bias) if head.rows == 1 else None
    if z is None:
        return "the head's weight gradient is not of rank one, so its input is not known"
    values = z - view.update.gradients[bias].double().reshape(-1) / scale * view.knowledge.classes / 2.0
    if view.knowledge.classes == 1:
        value = round(float(values[0]), 4)
        return LabelGuess(rule="head equation (MSE)", labels=(value,), certain=view.one_gradient)
    label = int(values.argmax())
    hot = torch.zeros_like(values)
    hot[label] = 1.0
    fits = view.one_gradient and float((values - hot).abs().max()) <= 10 * _FITS
    return LabelGuess(rule="head equation (MSE)", labels=(label,), certain=fits)


def _label(view: View, present: Tensor) -> Label:
    if view.knowledge.classes == 1:
        return int(present.reshape(-1)[0])
    return tuple(int(c) for c in present.reshape(-1).nonzero())
