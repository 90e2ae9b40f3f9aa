"""Slopes through what a forward pass rounds or cuts, for whoever holds the model and can compute through it.

A rounding gets the slope of what it rounds, the straight-through estimator of Bengio, Leonard & Courville 2013 (arXiv
1308.3432); `torch.no_grad` and `detach` cut nothing. Values stay what they were.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

Function = Callable[..., Any]

_SET_GRAD = torch._C._set_grad_enabled
DETACHED: tuple[Function, ...] = (torch.detach, Tensor.detach, Tensor.detach_, Tensor.data.__get__)  # type: ignore[attr-defined]
ROUNDED: tuple[Function, ...] = (
    torch.round, Tensor.round, torch.floor, Tensor.floor, torch.ceil, Tensor.ceil,
    torch.trunc, Tensor.trunc, torch.fix, Tensor.fix,
)  # fmt: skip
ROUNDED_IN_PLACE: tuple[Function, ...] = (
    torch.round_, Tensor.round_, torch.floor_, Tensor.floor_, torch.ceil_, Tensor.ceil_, torch.trunc_, Tensor.trunc_,
)  # fmt: skip
DIVIDED: tuple[Function, ...] = (
    torch.floor_divide, Tensor.floor_divide, Tensor.__floordiv__, torch.div, Tensor.div, torch.divide, Tensor.divide,
)  # fmt: skip
# x - x % q rounds x: what is left over has no slope then.
LEFT_OVER: tuple[Function, ...] = (
    torch.remainder, Tensor.remainder, Tensor.__mod__, torch.fmod, Tensor.fmod, torch.frac, Tensor.frac,
)  # fmt: skip
CAST: Mapping[Function, torch.dtype | None] = {
    Tensor.to: None, Tensor.type: None, Tensor.int: torch.int32, Tensor.long: torch.int64, Tensor.short: torch.int16,
    Tensor.byte: torch.uint8, Tensor.char: torch.int8,
}  # fmt: skip
# Of whole numbers that a cast has left as floats: y = x >> n is x / 2^n rounded, a mask of bits keeps the slope.
SHIFTED: Mapping[Function, int] = {
    Tensor.__rshift__: -1, torch.bitwise_right_shift: -1, Tensor.bitwise_right_shift: -1,
    Tensor.__lshift__: 1, torch.bitwise_left_shift: 1, Tensor.bitwise_left_shift: 1,
    Tensor.__and__: 0, torch.bitwise_and: 0, Tensor.bitwise_and: 0,
    Tensor.__or__: 0, torch.bitwise_or: 0, Tensor.bitwise_or: 0,
}  # fmt: skip


def _varies(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.requires_grad


def _with_slope(value: Tensor, slope: Tensor) -> Tensor:
    """Return the numbers of `value`, exactly, with the derivative of `slope`."""
    return value.detach().to(slope.dtype) + (slope - slope.detach())


def _whole(dtype: Any) -> bool:
    return isinstance(dtype, torch.dtype) and not (dtype.is_floating_point or dtype.is_complex or dtype is torch.bool)


def _shift(function: Function, places: Tensor | int) -> Tensor | float:
    """Return what a shift multiplies by; places may be a tensor of bytes, which know no minus."""
    signed = places.double() if isinstance(places, Tensor) else float(places)
    return 2.0 ** (SHIFTED[function] * signed) if SHIFTED[function] else 1.0


def _asked_dtype(function: Function, args: Any, kwargs: Mapping[str, Any]) -> torch.dtype | None:
    found = CAST[function]
    if found is not None:
        return found
    given = [*args[1:], *kwargs.values()]
    return next(
        (d for v in given for d in [v.dtype if isinstance(v, Tensor) else v] if isinstance(d, torch.dtype)), None
    )


@contextmanager
def inference_as_no_grad() -> Iterator[None]:
    """Let `torch.inference_mode` be `torch.no_grad` while active.

    Values are the same and clients send the same; what runs inside can then be observed and seen through.
    """
    kind = torch.inference_mode
    kept = kind.__enter__
    kind.__enter__ = _without_gradient  # type: ignore[method-assign]
    try:
        yield
    finally:
        kind.__enter__ = kept  # type: ignore[method-assign]


def _without_gradient(inference: torch.inference_mode) -> None:
    """Enter what `torch.inference_mode` leaves by the name that it gives it."""
    inference._inference_mode_context = torch.set_grad_enabled(not inference.mode)  # type: ignore[assignment]


class CutsMet(TorchFunctionMode):
    """Notes, while active, what is called that may take the slope from what it returns.

    Attributes
    ----------
    met
        Whether anything rounds, casts or cuts.
    cut
        Whether anything cuts: `detach`, `data`, `torch.no_grad`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.met = self.cut = False

    def __torch_function__(self, function: Function, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the function, and note it if it cuts."""
        kwargs = kwargs or {}
        if not self.cut and _cuts(function, args, kwargs):
            self.met, self.cut = True, function is _SET_GRAD or function in DETACHED
        return function(*args, **kwargs)


def _cuts(function: Function, args: Any, kwargs: Mapping[str, Any]) -> bool:
    if function is _SET_GRAD:
        return not args[0]
    if not (args and isinstance(args[0], Tensor) and args[0].is_floating_point()):
        return False
    if function in CAST:
        return _whole(_asked_dtype(function, args, kwargs))
    if function in DIVIDED:
        return kwargs.get("rounding_mode") is not None or function in DIVIDED[:3]
    return function in DETACHED or function in ROUNDED or function in ROUNDED_IN_PLACE or function in LEFT_OVER


class StraightThrough(TorchFunctionMode):
    """While active, functions that round or cut return the same numbers with a slope."""

    def __torch_function__(self, function: Function, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the function, or what has a slope in its place."""
        kwargs = kwargs or {}
        if function is _SET_GRAD and not args[0]:
            return None
        if not args or not _varies(args[0]):
            return function(*args, **kwargs)
        x = args[0]
        if function in DETACHED:
            return x
        if function in ROUNDED:
            return _with_slope(function(*args, **kwargs), x)
        if function in ROUNDED_IN_PLACE:
            return x.add_(function(x.detach().clone(), *args[1:], **kwargs) - x.detach())
        if function in LEFT_OVER:
            return function(*args, **kwargs).detach()
        if function in DIVIDED and _cuts(function, args, kwargs):
            divisor = args[1] if len(args) > 1 else kwargs["other"]
            return _with_slope(function(*args, **kwargs), x / divisor)
        if function in SHIFTED:
            return _with_slope(function(x.detach().long(), *args[1:], **kwargs), x * _shift(function, args[1]))
        if function in CAST and _whole(_asked_dtype(function, args, kwargs)):
            return _with_slope(function(x.detach(), *args[1:], **kwargs), x)
        return function(*args, **kwargs)
