"""Surrogate gradient for ReLU and its kin: let the matching objective see units switch.

The second derivative of ReLU is zero almost everywhere, so gradient matching cannot tell that a unit is about to
switch. As spiking nets do, forward and first backward stay exact and only the derivative of the step function is
replaced, in the double backward, by a bump of width tau times the activation's standard deviation.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from auditor.attack.matching.surrogate_functions import clipped, leaky, max_pool, relu

# Names of functions whose slope jumps; a net without any of them has a smooth gradient.
_RECTIFIERS = ("relu", "relu6", "leaky_relu", "prelu", "rrelu", "threshold", "hardtanh", "hardswish", "hardsigmoid")
_BOUNDS = ("abs", "clamp", "clip", "maximum", "minimum", "amax", "amin", "max", "min", "sort", "topk")
_POOLS = tuple(f"{kind}max_pool{n}d" for n in (1, 2, 3) for kind in ("", "adaptive_"))
_NONSMOOTH = frozenset((*_RECTIFIERS, *_BOUNDS, *_POOLS))

RELUS = {torch.relu, torch.relu_, F.relu, Tensor.relu, Tensor.relu_, F.relu_}
RELUS_IN_PLACE = {torch.relu_, Tensor.relu_, F.relu_}


class SurrogateGradient(TorchFunctionMode):
    """While active, switches have surrogate gradient of relative width `tau`.

    Those of ReLU, leaky and parametric ReLU, ReLU6 and hardtanh, and max pooling (without dilation; adaptive where the
    windows are alike). Others are left alone.
    """

    def __init__(self, tau: float) -> None:
        super().__init__()
        self.tau = tau

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Replace ReLU, leave everything else alone."""
        if func in RELUS:
            given = kwargs or {}
            x = args[0] if args else given["input"]
            inplace = func in RELUS_IN_PLACE or given.get("inplace", False) or (func is F.relu and args[1:] == (True,))
            if inplace:
                return x.copy_(relu(x.clone(), self.tau))
            return relu(x, self.tau)
        if func in _OTHERS:
            return _OTHERS[func](func, self.tau, args, kwargs or {})
        return func(*args, **(kwargs or {}))


def _leaky(func: Callable[..., Any], tau: float, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    given = _given(("input", "negative_slope", "inplace"), args, {"negative_slope": 0.01, "inplace": False, **kwargs})
    return _placed(given, lambda x: leaky(x, float(given["negative_slope"]), tau))


def _clipped(func: Callable[..., Any], tau: float, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    if func in (F.relu6, torch._C._nn.relu6):
        given = _given(("input", "inplace"), args, {"inplace": False, **kwargs})
        return _placed(given, lambda x: clipped(x, 0.0, 6.0, tau))
    defaults = {"min_val": -1.0, "max_val": 1.0, "inplace": False}
    given = _given(("input", "min_val", "max_val", "inplace"), args, {**defaults, **kwargs})
    return _placed(given, lambda x: clipped(x, float(given["min_val"]), float(given["max_val"]), tau))


def _parametric(func: Callable[..., Any], tau: float, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """relu(x) - a relu(-x), exactly: one of the two terms is zero."""
    given = _given(("input", "weight"), args, kwargs)
    x, slope = given["input"], given["weight"]
    if slope.numel() > 1:
        slope = slope.reshape(-1, *[1] * (x.ndim - 2)) if x.ndim > 1 else slope
    return relu(x, tau) - slope * relu(-x, tau)


_POOLING = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")


def _pooled(func: Callable[..., Any], tau: float, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    given = _given(_POOLING, args, {"stride": None, "padding": 0, "dilation": 1, "ceil_mode": False, **kwargs})
    n = _DIMENSIONS[func]
    if given["ceil_mode"] or given.get("return_indices") or any(d != 1 for d in _each(given["dilation"], n)):
        return func(*args, **kwargs)
    kernel = _each(given["kernel_size"], n)
    return max_pool(given["input"], n, kernel, _each(given["stride"] or kernel, n), _each(given["padding"], n), tau)


def _pooled_to(func: Callable[..., Any], tau: float, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    given = _given(("input", "output_size", "return_indices"), args, kwargs)
    n, x = _ADAPTIVE[func], given["input"]
    sizes = [size if wanted is None else wanted for size, wanted in
             zip(x.shape[-n:], _each(given["output_size"], n), strict=True)]  # fmt: skip
    if given.get("return_indices") or any(size % wanted for size, wanted in zip(x.shape[-n:], sizes, strict=True)):
        return func(*args, **kwargs)
    kernel = [size // wanted for size, wanted in zip(x.shape[-n:], sizes, strict=True)]
    return max_pool(x, n, kernel, kernel, [0] * n, tau)


def _given(names: Sequence[str], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    return {**kwargs, **dict(zip(names, args, strict=False))}


def _placed(given: dict[str, Any], function: Callable[[Tensor], Tensor]) -> Tensor:
    x = given["input"]
    return x.copy_(function(x.clone())) if given["inplace"] else function(x)


def _each(value: Any, n: int) -> list[Any]:
    values = list(value) if isinstance(value, Sequence) else [value]
    return values * n if len(values) == 1 else values


_DIMENSIONS: dict[Callable[..., Any], int] = {
    F.max_pool1d: 1, F.max_pool2d: 2, F.max_pool3d: 3,
    torch.max_pool1d: 1, torch.max_pool2d: 2, torch.max_pool3d: 3,
}  # fmt: skip
_ADAPTIVE: dict[Callable[..., Any], int] = {
    F.adaptive_max_pool1d: 1,
    F.adaptive_max_pool2d: 2,
    F.adaptive_max_pool3d: 3,
}
_OTHERS: dict[Callable[..., Any], Callable[..., Any]] = {
    F.leaky_relu: _leaky, F.hardtanh: _clipped, F.relu6: _clipped, torch._C._nn.relu6: _clipped,
    F.prelu: _parametric, torch.prelu: _parametric, **dict.fromkeys(_DIMENSIONS, _pooled),
    **dict.fromkeys(_ADAPTIVE, _pooled_to),
}  # fmt: skip


class NonsmoothFunctions(TorchFunctionMode):
    """While active, note by name every function of the forward pass whose slope jumps."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Note the name, change nothing."""
        name = getattr(func, "__name__", "").removesuffix("_with_indices").rstrip("_")
        if name in _NONSMOOTH:
            self.seen.add(name)
        return func(*args, **(kwargs or {}))
