"""What an update and the public model tell of the classification head."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from auditor.records import Clips, View

# Clips of no content on which the public model is asked for its usual output and features.
_LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)
_NOISE = 3


@dataclass(frozen=True)
class Blind:
    """What the public model says of clips without content: mean probabilities and mean input of the head.

    `positive` is True when no feature of any of these clips was negative, as after ReLU.
    """

    probabilities: Float[Tensor, " class"]
    features: Float[Tensor, " feature"] | None
    positive: bool


@dataclass(frozen=True)
class Head:
    """Gradients of a classification head, float64, as far as they were sent and are not zero.

    After several local steps they are averages over the steps, about those of the mean loss if weights moved little.

    Attributes
    ----------
    weight, bias
        dW `(class, feature)` and db `(class,)` of the mean loss.
    weight_name, bias_name
        Names of the parameters.
    batch
        How many clips share the update.
    scaled
        Whether they have the size of the mean loss's gradients; False where the attacker does not know how many of
        these an update of local steps adds up to.
    """

    classes: int
    batch: int
    weight_name: str | None
    bias_name: str | None
    weight: Float[Tensor, "class feature"] | None
    bias: Float[Tensor, " class"] | None
    scaled: bool = True


def find_head(view: View) -> Head:
    """Return the last matrix with one row per class and the last vector whose entries sum to zero.

    Both derivatives of softmax with cross-entropy sum to zero over the classes.
    """
    classes = view.knowledge.classes
    weight = bias = None
    for name in reversed(_in_forward_order(view)):
        g = view.update.gradients[name]
        if not float(g.abs().max()) > 0.0:
            continue
        squeezed = g.squeeze()
        if bias is None and g.numel() == classes and squeezed.ndim == 1 and _sums_to_zero(g, _rounding(view, name)):
            bias = name
        if weight is None and squeezed.ndim == 2 and classes in squeezed.shape:
            weight = name
    sent, scale = view.update.gradients, view.scale
    size = 1.0 if scale is None else scale
    return Head(
        classes=classes,
        batch=view.update.batch,
        weight_name=weight,
        bias_name=bias,
        weight=None if weight is None else by_class(sent[weight].double(), classes) / size,
        bias=None if bias is None else sent[bias].double().reshape(-1) / size,
        scaled=scale is not None,
    )


def blind(view: View, head: Head) -> Blind:
    """Run the public model on grey levels and noise."""
    device = next(iter(view.update.gradients.values())).device
    shape = view.knowledge.clip_shape
    generator = torch.Generator().manual_seed(0)
    clips = [torch.full(shape, level) for level in _LEVELS]
    clips += [torch.rand(shape, generator=generator) for _ in range(_NOISE)]
    batch = torch.stack(clips).to(device)
    with torch.no_grad():
        probabilities = torch.softmax(view.target.model(batch).double().reshape(-1, head.classes), dim=1).mean(0)
        features = _features(view, head, batch)
    if features is None:
        return Blind(probabilities, None, False)
    return Blind(probabilities, features.mean(0), bool((features >= 0.0).all()))


def clip_features(view: View, head: Head, clips: Clips) -> Float[Tensor, "clip feature"] | None:
    """Return what the head reads of each clip, averaged over the rows that a clip sends through it, in float64."""
    means = []
    for clip in clips:  # one by one: a file that fixes the batch reads a larger one in parts
        with torch.no_grad():
            rows = _features(view, head, clip[None])
        if rows is None:
            return None
        means.append(rows.mean(0))
    return torch.stack(means)


def by_class(matrix: Tensor, classes: int) -> Tensor:
    """Return a head's weight, or its gradient, as (class, feature)."""
    flat = matrix.squeeze()
    return flat if flat.shape[0] == classes else flat.T


def _features(view: View, head: Head, clips: Tensor) -> Tensor | None:
    if head.weight_name is None or head.weight is None:
        return None
    try:
        seen, _ = view.target.model.inputs_of(head.weight_name, clips)
    except LookupError:
        return None
    width = head.weight.shape[1]
    if seen.shape[-1] == width:
        return seen.double().reshape(-1, width)
    if seen.ndim > 1 and seen.shape[1] == width:  # a convolution's: (clip, feature, ...)
        return seen.double().flatten(2).mean(2) if seen.ndim > 2 else seen.double()
    return None


def _in_forward_order(view: View) -> list[str]:
    ordered = [n for layer in view.target.layers for n in layer.parameters if n in view.update.gradients]
    return ordered or list(view.update.gradients)


def _sums_to_zero(g: Tensor, rounding: float) -> bool:
    g = g.double()
    return abs(float(g.sum())) <= 1e-4 * float(g.abs().sum()) + rounding + 1e-12


def _rounding(view: View, name: str) -> float:
    """Return what rounding of float32 weights may add to the sum of w0 - wT."""
    if view.update.algorithm == "FedSGD":
        return 0.0
    epsilon = torch.finfo(torch.float32).eps
    return epsilon * float(view.target.parameters[name].detach().abs().double().sum())
