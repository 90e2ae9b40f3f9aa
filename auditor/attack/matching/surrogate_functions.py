"""Piecewise linear functions whose switching has a smooth derivative: exact forward, exact first backward.

Only the derivative of the choice (on or off, this entry of the window or that) is replaced, in the double backward, by
that of a smooth choice of width tau times the standard deviation of what is chosen from.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


class _Step(torch.autograd.Function):
    """Heaviside step whose derivative is a logistic bump."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, width: Tensor) -> Tensor:
        return (x > 0).to(x.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        x, width = ctx.saved_tensors
        s = torch.sigmoid(x / width)
        return grads[0] * s * (1.0 - s) / width, None


class _SurrogateRelu(torch.autograd.Function):
    """ReLU, exact forward and backward; its backward is differentiable in x through `_Step`."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, tau: float) -> Tensor:
        return x.clamp(min=0.0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0])
        ctx.tau = inputs[1]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        # A tensor, so that nothing waits for the device, and several restarts have a width each.
        width = (ctx.tau * x.detach().std()).clamp(min=1e-12)
        return grads[0] * _Step.apply(x, width), None


class _Choice(torch.autograd.Function):
    """`high` where x > 0, else `low`; its derivative is a logistic bump of mass high - low."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, width: float, low: float, high: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.width, ctx.jump = width, high - low
        return torch.where(x > 0, x.new_tensor(high), x.new_tensor(low))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(x / ctx.width)
        return grads[0] * s * (1.0 - s) * (ctx.jump / ctx.width), None, None, None


class _Leaky(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: float, tau: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.slope, ctx.tau = slope, tau
        return F.leaky_relu(x, slope)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        return grads[0] * _Choice.apply(x, _width(x, ctx.tau), ctx.slope, 1.0), None, None


class _Clipped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, low: float, high: float, tau: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.low, ctx.high, ctx.tau = low, high, tau
        return F.hardtanh(x, low, high)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (x,) = ctx.saved_tensors
        width = _width(x, ctx.tau)
        inside = _Choice.apply(x - ctx.low, width, 0.0, 1.0) * _Choice.apply(ctx.high - x, width, 0.0, 1.0)
        return grads[0] * inside, None, None, None


class _MaxPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, n: int, kernel: Sequence[int], stride: Sequence[int], pad: Sequence[int],
                tau: float) -> Tensor:  # fmt: skip
        pooled, chosen = _POOLS[n](x, kernel, stride, pad, return_indices=True)
        ctx.save_for_backward(x, chosen)
        ctx.how = (n, kernel, stride, pad, tau)
        return pooled

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        x, chosen = ctx.saved_tensors
        return _Select.apply(x, grads[0], chosen, *ctx.how), None, None, None, None, None


class _Select(torch.autograd.Function):
    """Put every window's gradient where its maximum is; in x the maximum is taken as the softmax of the window."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gradient: Tensor, chosen: Tensor, n: int, kernel: Sequence[int],
                stride: Sequence[int], pad: Sequence[int], tau: float) -> Tensor:  # fmt: skip
        ctx.save_for_backward(x, gradient, chosen)
        ctx.how = (n, kernel, stride, pad, tau)
        flat = torch.zeros_like(x).flatten(-n)
        return flat.scatter_add(-1, chosen.flatten(-n), gradient.flatten(-n)).view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, gradient, chosen = ctx.saved_tensors
        n, kernel, stride, pad, tau = ctx.how
        v = grads[0]
        back = v.flatten(-n).gather(-1, chosen.flatten(-n)).view_as(gradient)
        with torch.enable_grad():
            at = x.detach().requires_grad_(True)
            share = (_windows(at, n, kernel, stride, pad, -torch.inf) / _width(x, tau)).softmax(dim=-1)
            spread = (share * _windows(v.detach(), n, kernel, stride, pad, 0.0)).sum(dim=-1)
            (curved,) = torch.autograd.grad((gradient.detach() * spread).sum(), at)
        return curved, back, None, None, None, None, None, None


_POOLS: dict[int, Any] = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


def relu(x: Tensor, tau: float) -> Tensor:
    """ReLU, exact but for its second derivative: a bump of width tau times the standard deviation of x."""
    return _SurrogateRelu.apply(x, tau)


def leaky(x: Tensor, slope: float, tau: float) -> Tensor:
    """Leaky ReLU."""
    return _Leaky.apply(x, slope, tau)


def clipped(x: Tensor, low: float, high: float, tau: float) -> Tensor:
    """Hardtanh: x between low and high; ReLU6 is that between 0 and 6."""
    return _Clipped.apply(x, low, high, tau)


def max_pool(x: Tensor, n: int, kernel: Sequence[int], stride: Sequence[int], pad: Sequence[int], tau: float) -> Tensor:
    """Maximum over windows of the last n axes."""
    return _MaxPool.apply(x, n, kernel, stride, pad, tau)


def _width(x: Tensor, tau: float) -> float:
    return max(tau * float(x.detach().std()), 1e-12) if x.numel() > 1 else 1e-12


def _windows(
    x: Tensor, n: int, kernel: Sequence[int], stride: Sequence[int], pad: Sequence[int], fill: float
) -> Tensor:
    """Return every window's entries along a last axis of their own."""
    if any(pad):
        x = F.pad(x, [side for p in reversed(pad) for side in (p, p)], value=fill)
    first = x.ndim - n
    for axis in range(n):
        x = x.unfold(first + axis, kernel[axis], stride[axis])
    return x.flatten(-n)
