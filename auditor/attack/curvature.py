"""Surrogate curvature for ReLU: let the matching objective see units switch.

The second derivative of ReLU is zero almost everywhere, so gradient matching cannot tell that a unit is about to
switch. As spiking nets do, forward and first backward stay exact and only the derivative of the step function is
replaced, in the double backward, by a bump of width tau times the activation's standard deviation.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


class _Step(torch.autograd.Function):
    """Heaviside step whose derivative is a logistic bump."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, width: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.width = width
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(x / ctx.width)
        return grads[0] * s * (1.0 - s) / ctx.width, None


class _SurrogateRelu(torch.autograd.Function):
    """ReLU, exact forward and backward; its backward is differentiable in x through `_Step`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, tau: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.tau = tau
        return x.clamp(min=0.0)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        width = max(ctx.tau * float(x.detach().std()), 1e-12)
        return grads[0] * _Step.apply(x, width), None


# Names of functions whose slope jumps; a net without any of them has a smooth gradient.
_RECTIFIERS = ("relu", "relu6", "leaky_relu", "prelu", "rrelu", "threshold", "hardtanh", "hardswish", "hardsigmoid")
_BOUNDS = ("abs", "clamp", "clip", "maximum", "minimum", "amax", "amin", "max", "min", "sort", "topk")
_POOLS = tuple(f"{kind}max_pool{n}d" for n in (1, 2, 3) for kind in ("", "adaptive_"))
_KINKED = frozenset((*_RECTIFIERS, *_BOUNDS, *_POOLS))

_RELUS = {torch.relu, torch.relu_, F.relu, Tensor.relu, Tensor.relu_, F.relu_}


_IN_PLACE = {torch.relu_, Tensor.relu_, F.relu_}


class SurrogateCurvature(TorchFunctionMode):
    """While active, every ReLU has surrogate curvature of relative width `tau`."""

    def __init__(self, tau: float) -> None:
        super().__init__()
        self.tau = tau

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Replace ReLU, leave everything else alone."""
        if func in _RELUS:
            given = kwargs or {}
            x = args[0] if args else given["input"]
            inplace = func in _IN_PLACE or given.get("inplace", False) or (func is F.relu and args[1:] == (True,))
            if inplace:
                return x.copy_(_SurrogateRelu.apply(x.clone(), self.tau))
            return _SurrogateRelu.apply(x, self.tau)
        return func(*args, **(kwargs or {}))


class Kinks(TorchFunctionMode):
    """While active, note by name every function of the forward pass whose slope jumps."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Note the name, change nothing."""
        name = getattr(func, "__name__", "").removesuffix("_with_indices").rstrip("_")
        if name in _KINKED:
            self.seen.add(name)
        return func(*args, **(kwargs or {}))
