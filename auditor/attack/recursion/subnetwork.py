"""Pieces of the public net between the operations that read given weights: run from one value up to another.

A piece is run by running the whole net on any clip, with a value put in place of one operation's input or output, and
by stopping where the wanted operation begins. That needs no list of modules, so it holds for PyTorch models and
imported graphs alike.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from auditor.records import Clips, PublicModel

CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
WEIGHTED = {"conv1d", "conv2d", "conv3d", "linear", "matmul", "mm", "addmm", "__matmul__"}
_ORDER = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")


@dataclass(frozen=True)
class Operation:
    """One call of a convolution or matrix product that reads a weight: what it was given, and what it returned."""

    weight: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    place: int
    input: Tensor
    output: Tensor

    def __call__(self, value: Tensor) -> Tensor:
        """Apply it to another input of the same shape."""
        args = tuple(value if i == self.place else a for i, a in enumerate(self.args))
        made = self.function(*args, **self.kwargs)
        assert isinstance(made, Tensor)
        return made

    def oriented(self, gradient: Tensor) -> Tensor:
        """Return the gradient of a matrix product's weight as (output, input); exporters may store it either way."""
        operand = next(a for a in (*self.args[self.place + 1 :], *self.kwargs.values()) if isinstance(a, Tensor))
        as_stored = operand if operand.is_contiguous() else operand.T
        made = gradient.reshape(as_stored.shape)
        made = made if operand.is_contiguous() else made.T
        return made if self.function is F.linear else made.T

    @property
    def convolution(self) -> dict[str, Any] | None:
        """The settings of a convolution by name, or None for a matrix product."""
        if getattr(self.function, "__name__", "") not in ("conv1d", "conv2d", "conv3d"):
            return None
        given = {**dict(zip(_ORDER, self.args, strict=False)), **self.kwargs}
        n = given["weight"].dim() - 2
        usual: dict[str, Any] = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
        settings = {name: given.get(name, value) for name, value in usual.items()}
        for name in ("stride", "dilation", "padding"):
            value = settings[name]
            if not isinstance(value, str):
                many = (value,) if isinstance(value, int) else tuple(value)
                settings[name] = many if len(many) == n else many * n
        return settings | {"weight": given["weight"], "axes": n, "padding": _in_numbers(settings, given["weight"])}

    def reads_across(self, axes: Sequence[int]) -> bool:
        """Tell whether one output reads several places along some of these axes of a convolution's input."""
        settings = self.convolution
        if settings is None:
            return False
        kernel, stride = settings["weight"].shape[2:], settings["stride"]
        return any(a >= 2 and self.input.shape[a] > 1 and (kernel[a - 2] > 1 or stride[a - 2] > 1) for a in axes)


def _in_numbers(settings: Mapping[str, Any], weight: Tensor) -> Any:
    """Return a padding in numbers where it is the same on both sides; else as it is given."""
    if settings["padding"] == "valid":
        return (0,) * (weight.dim() - 2)
    if settings["padding"] != "same":
        return settings["padding"]
    whole = [d * (k - 1) for d, k in zip(settings["dilation"], weight.shape[2:], strict=True)]
    return "same" if any(w % 2 for w in whole) else tuple(w // 2 for w in whole)


class _Reached(BaseException):
    """The operation that was waited for has begun or ended."""


class PatchedForward(TorchFunctionMode):
    """While active, note every operation that reads one of the weights, by the weight's name.

    Parameters
    ----------
    weights
        By name, as the model holds them.
    instead
        A value put in place of the input or the output of the operation that reads a weight.
    until
        The weight whose operation is the last to run; everything after it is left out.
    before
        Operations that are not run again: their output, as it was, stands for itself.
    """

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        instead: tuple[str, Literal["input", "output"], Tensor] | None = None,
        until: str | None = None,
        before: Sequence[Operation] = (),
    ) -> None:
        super().__init__()
        self._names = {value.untyped_storage()._cdata: name for name, value in weights.items()}
        self._sizes = {name: value.numel() for name, value in weights.items()}
        self._instead, self._until = instead, until
        self._before = {call.weight: call.output for call in before}
        self.seen: dict[str, list[Operation]] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Note and replace; leave everything else alone."""
        given = kwargs or {}
        name = getattr(func, "__name__", "")
        found = self._reads(args, given) if name in WEIGHTED else None
        if found is None:
            return func(*args, **given)
        weight, place = found
        # What goes on is always a copy: behind a layer, units may work in place.
        if weight in self._before:
            return self._before[weight].clone()
        if self._instead is not None and self._instead[:2] == (weight, "input"):
            args = tuple(self._instead[2] if i == place else a for i, a in enumerate(args))
        out = func(*args, **given)
        self.seen.setdefault(weight, []).append(Operation(weight, func, args, given, place, args[place], out))
        if weight == self._until:
            raise _Reached
        if self._instead is not None and self._instead[:2] == (weight, "output"):
            return self._instead[2].clone()
        return out.clone()

    def _reads(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[str, int] | None:
        """Return the weight that a call reads, and the place of its input among the arguments."""
        values = [(i, a) for i, a in enumerate(args) if isinstance(a, Tensor)]
        keyword = [(-1, a) for a in kwargs.values() if isinstance(a, Tensor)]
        for i, value in (*values, *keyword):
            name = self._names.get(value.untyped_storage()._cdata)
            if name is not None and self._sizes[name] == value.numel():
                others = [
                    j for j, a in values if j != i and a.untyped_storage()._cdata not in self._names and a.dim() > 1
                ]
                return (name, others[0]) if others else None
        return None


def run(
    model: PublicModel,
    clips: Clips,
    weights: Mapping[str, Tensor],
    instead: tuple[str, Literal["input", "output"], Tensor] | None = None,
    until: str | None = None,
    before: Sequence[Operation] = (),
) -> tuple[dict[str, list[Operation]], Tensor | None]:
    """Run the net on clips; return the operations seen, by weight, and the logits unless it was stopped before."""
    passage = PatchedForward(weights, instead, until, before)
    logits = None
    try:
        with passage:
            logits = model(clips)
    except _Reached:
        pass
    return passage.seen, logits


def chain(model: PublicModel, clips: Clips, weights: Mapping[str, Tensor]) -> list[Operation]:
    """Return, in order, the operations through which alone the clip reaches the logits.

    An operation belongs to the chain when its weight is read once and the logits do not depend on the clip once its
    input is held. A residual connection around it, or a second pathway, puts it outside.
    """
    with torch.no_grad():
        seen, _ = run(model, clips, weights)
        other = torch.rand(clips.shape, generator=torch.Generator().manual_seed(1)).to(clips)
        held = []
        for name, calls in seen.items():
            if len(calls) != 1:
                continue
            call = calls[0]
            _, here = run(model, clips, weights, (name, "input", call.input))
            _, there = run(model, other, weights, (name, "input", call.input))
            if here is not None and there is not None and torch.equal(here, there):
                held.append(call)
    return held
