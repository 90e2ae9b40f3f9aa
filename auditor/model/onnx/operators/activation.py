"""Activations; piecewise linear ones are built from clamp, because torch's fused kernels lack second derivatives."""

import torch
import torch.nn.functional as F
from torch import Tensor

from auditor.model.onnx.graph import Node
from auditor.model.onnx.operators.registry import Function, builtin, number, simple


def hard_sigmoid(x: Tensor, alpha: float = 1 / 6, beta: float = 0.5) -> Tensor:
    """Return max(0, min(1, alpha x + beta)); twice differentiable almost everywhere."""
    return torch.clamp(x * alpha + beta, 0, 1)


def hard_swish(x: Tensor) -> Tensor:
    """Return x times its hard sigmoid."""
    return x * hard_sigmoid(x)


ELEMENTWISE: dict[str, Function] = {
    "Relu": torch.relu,
    "Sigmoid": torch.sigmoid,
    "Tanh": torch.tanh,
    "Softplus": F.softplus,
    "Softsign": F.softsign,
    "HardSwish": hard_swish,
    "Mish": lambda x: x * torch.tanh(F.softplus(x)),
    "PRelu": lambda x, slope: torch.where(x > 0, x, x * slope),
}
for name, function in ELEMENTWISE.items():
    simple(name, function)


@builtin("HardSigmoid")
def _hard_sigmoid(node: Node) -> Function:
    alpha, beta = node.attributes.get("alpha", 0.2), node.attributes.get("beta", 0.5)
    return lambda x: hard_sigmoid(x, alpha, beta)


@builtin("Swish")
def _swish(node: Node) -> Function:
    alpha = node.attributes.get("alpha", 1.0)
    return lambda x: x * torch.sigmoid(x * alpha)


@builtin("SwiGLU")
def _gated_swish(node: Node) -> Function:
    alpha = node.attributes.get("alpha", 1.0)
    return lambda gate, x: gate * torch.sigmoid(gate * alpha) * x


@builtin("QuickGelu", domain="com.microsoft")
def _quick_gelu(node: Node) -> Function:
    alpha = node.attributes.get("alpha", 1.702)
    return lambda x: x * torch.sigmoid(x * alpha)


@builtin("Gelu")
def _gelu(node: Node) -> Function:
    approximate = node.attributes.get("approximate", "none")
    return lambda x: F.gelu(x, approximate=approximate)


simple("Gelu", F.gelu, domain="com.microsoft")


@builtin("LeakyRelu")
def _leaky_relu(node: Node) -> Function:
    alpha = node.attributes.get("alpha", 0.01)
    return lambda x: F.leaky_relu(x, alpha)


@builtin("ThresholdedRelu")
def _thresholded_relu(node: Node) -> Function:
    alpha = node.attributes.get("alpha", 1.0)
    return lambda x: torch.where(x > alpha, x, torch.zeros_like(x))


@builtin("Elu")
def _elu(node: Node) -> Function:
    alpha = node.attributes.get("alpha", 1.0)
    return lambda x: F.elu(x, alpha)


@builtin("Celu")
def _celu(node: Node) -> Function:
    alpha = node.attributes.get("alpha", 1.0)
    return lambda x: F.celu(x, alpha)


@builtin("Selu")
def _selu(node: Node) -> Function:
    alpha, gamma = node.attributes.get("alpha", 1.6732632), node.attributes.get("gamma", 1.0507010)
    return lambda x: gamma * F.elu(x, alpha)


@builtin("Shrink")
def _shrink(node: Node) -> Function:
    bias, threshold = node.attributes.get("bias", 0.0), node.attributes.get("lambd", 0.5)

    def shrink(x: Tensor) -> Tensor:
        return torch.where(x < -threshold, x + bias, torch.where(x > threshold, x - bias, torch.zeros_like(x)))

    return shrink


@builtin("Clip", numbers=(1, 2))
def _clip(node: Node) -> Function:
    lowest, highest = node.attributes.get("min"), node.attributes.get("max")

    def clip(x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
        bottom = lowest if low is None else number(low, 0)
        top = highest if high is None else number(high, 0)
        return x if bottom is None and top is None else torch.clamp(x, bottom, top)

    return clip


def _hardmax(x: Tensor, axis: int) -> Tensor:
    return F.one_hot(x.argmax(axis), x.shape[axis]).to(x.dtype).movedim(-1, axis)


NORMALISERS: dict[str, Function] = {"LogSoftmax": torch.log_softmax, "Hardmax": _hardmax}
NORMALISERS["Softmax"] = torch.softmax


@builtin("Softmax", "LogSoftmax", "Hardmax")
def _softmax(node: Node) -> Function:
    normalise = NORMALISERS[node.operator]
    if node.opset >= 13:
        axis = node.attributes.get("axis", -1)
        return lambda x: normalise(x, axis)
    axis = node.attributes.get("axis", 1)

    # Before opset 13 all axes from `axis` on are one.
    def flattened(x: Tensor) -> Tensor:
        return normalise(x.flatten(axis % x.dim()), -1).reshape(x.shape)

    return flattened
