"""Gradients through units that are shut: rectifiers as they are, but with a slope outside their range."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from auditor.attack.matching.surrogate_gradient import RELUS, RELUS_IN_PLACE

# Share of the gradient that shut units pass: towards features of 48 x 48 frames the distance fell from 1 to 1e-4.
OPEN = 0.1
_SIX = {F.relu6, torch._C._nn.relu6}
_BOUNDED = {torch.clamp, Tensor.clamp, torch.clip, Tensor.clip}


class _LeakyGradient(torch.autograd.Function):
    """A clamp whose backward lets a share of the gradient through where it is flat."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, low: float, high: float, slope: float) -> Tensor:
        ctx.save_for_backward((x > low) & (x < high))
        ctx.slope = slope
        return x.clamp(low, high)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (inside,) = ctx.saved_tensors
        return torch.where(inside, grads[0], ctx.slope * grads[0]), None, None, None


class OpenUnits(TorchFunctionMode):
    """While active, ReLU, ReLU6, hardtanh and clamps pass `slope` of a gradient where they are flat.

    What they compute stays exact. A descent towards features that starts where most units of a public extractor are
    shut has no gradient else: EfficientNet-Lite0 makes zeros of grey frames of 48 x 48, and the search stays where it
    began. A straight-through estimate (Bengio et al. 2013, arXiv 1308.3432) that favours the open side.
    """

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = slope

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Replace rectifiers, leave everything else alone."""
        given = kwargs or {}
        bounds = _bounds(func, args, given)
        x = args[0] if args else given.get("input")
        if bounds is None or not isinstance(x, Tensor) or not x.is_floating_point():
            return func(*args, **given)
        low, high, inplace = bounds
        if inplace:
            return x.copy_(_LeakyGradient.apply(x.clone(), low, high, self.slope))
        return _LeakyGradient.apply(x, low, high, self.slope)


def _bounds(func: Callable[..., Any], args: tuple[Any, ...], given: dict[str, Any]) -> tuple[float, float, bool] | None:
    """Return where a function is flat, and whether it works in place; None for all others."""
    if func in RELUS:
        inplace = func in RELUS_IN_PLACE or given.get("inplace", False) or (func is F.relu and args[1:] == (True,))
        return 0.0, float("inf"), bool(inplace)
    if func in _SIX:
        return 0.0, 6.0, bool(given.get("inplace", False) or args[1:2] == (True,))
    if func is F.hardtanh:
        low, high, inplace = (*args[1:], *(-1.0, 1.0, False)[len(args) - 1 :])[:3]
        return float(given.get("min_val", low)), float(given.get("max_val", high)), bool(given.get("inplace", inplace))
    if func in _BOUNDED:
        low, high = (*args[1:], None, None)[:2]
        low, high = given.get("min", low), given.get("max", high)
        if all(v is None or not isinstance(v, Tensor) or v.numel() == 1 for v in (low, high)):
            return float("-inf" if low is None else low), float("inf" if high is None else high), False
    return None
