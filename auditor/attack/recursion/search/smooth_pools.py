"""Maxima over windows as they look to someone who knows what they compare only up to an error."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

# Deviation of a Gumbel variable of scale one.
_DEVIATION = math.pi / math.sqrt(6.0)
_ORDER = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
_USUAL: dict[str, Any] = {"stride": None, "padding": 0, "dilation": 1, "ceil_mode": False, "return_indices": False}
_AXES: dict[Callable[..., Any], int] = {
    F.max_pool1d: 1, F.max_pool2d: 2, F.max_pool3d: 3,
    torch.max_pool1d: 1, torch.max_pool2d: 2, torch.max_pool3d: 3,
}  # fmt: skip


class SmoothPools(TorchFunctionMode):
    """While active, max pooling is replaced by its expectation under a Gumbel error of everything that it compares.

    E[max(z_i + g_i)] = b log sum exp(z_i / b) for independent Gumbel errors g of scale b and mean zero: exact, and its
    slope, a softmax, is the probability that each is the largest. The error's deviation is `width` times that of the
    layer's values. Pooling with dilation, or that rounds sizes up, is left alone.
    """

    def __init__(self, width: float) -> None:
        super().__init__()
        self.width = width

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Replace max pooling, leave everything else alone."""
        given = {**_USUAL, **(kwargs or {}), **dict(zip(_ORDER, args, strict=False))}
        plain = func in _AXES and not given["ceil_mode"] and not given["return_indices"]
        if not plain or any(d != 1 for d in _each(given["dilation"], _AXES[func])):
            return func(*args, **(kwargs or {}))
        x: Tensor = given["input"]
        scale = self.width * float(x.detach().std()) / _DEVIATION
        if not scale > 0.0:
            return func(*args, **(kwargs or {}))
        windows = _windows(x, _AXES[func], given["kernel_size"], given["stride"], given["padding"])
        return scale * torch.logsumexp(windows / scale, -1)


def _windows(x: Tensor, n: int, kernel: Any, stride: Any, padding: Any) -> Tensor:
    """Return every window's entries along a last axis of their own; padding is never the largest."""
    pads = [side for p in reversed(_each(padding, n)) for side in (p, p)]
    x = F.pad(x, pads, value=float(torch.finfo(x.dtype).min) / 2.0) if any(pads) else x
    sizes, steps = _each(kernel, n), _each(kernel if stride is None else stride, n)
    first = x.dim() - n
    for axis in range(n):
        x = x.unfold(first + axis, sizes[axis], steps[axis])
    return x.flatten(-n)


def _each(value: Any, n: int) -> list[Any]:
    values = list(value) if isinstance(value, (tuple, list)) else [value]
    return values * n if len(values) == 1 else values
