"""Forward passes that leave PyTorch for NumPy or lists and come back: what comes back still depends on the clip.

What watches a forward pass by its operations, and autograd, lose the clip there, though whoever holds the model does
not. So what is made of numbers after values of the clip were taken out counts as made of them. Where it is those values
times a number plus a number, for all or for each colour, it has that slope too, for models whose cuts are seen through
(`straight_through`).
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from auditor.model.forward_constants import ForwardConstant, digest

# A scale and a shift in float32, or by way of float64; any other function is nowhere near on noise.
SAME = 1e-5
# Two numbers are found from at least this many values, so that few of them cannot agree by chance.
FEWEST = 8
COLOURS = 4
_TAKERS = ("numpy", "tolist")
_MAKERS = ("from_numpy", "tensor", "as_tensor", "asarray", "frombuffer", "from_dlpack")
_MAKING_METHODS = ("new_tensor", "new")
# A tensor that holds the same after two different clips were taken out is none of the clip: a weight in a list.
CLIPS = 2


@dataclass(frozen=True, slots=True, eq=False)
class Rescaling:
    """`scale * x + shift`, one of each for every entry along `axis`; for all values where that is None."""

    axis: int | None
    scale: Tensor
    shift: Tensor

    def of(self, x: Tensor) -> Tensor:
        """Return the values on the line, without the shift."""
        return x * self._along(self.scale, x)

    def fits(self, x: Tensor, y: Tensor) -> bool:
        """Tell whether `y` is on the line above `x`, of one shape and in float64."""
        off = self.of(x) + self._along(self.shift, x) - y
        return float(off.abs().max()) <= SAME * max(float(y.abs().max()), float(self.scale.abs().max()))

    def _along(self, values: Tensor, x: Tensor) -> Tensor:
        shape = [-1 if axis == self.axis else 1 for axis in range(x.dim())]
        return values.to(x).reshape(shape)


@dataclass(slots=True)
class Detours:
    """What is known of the detours of a model.

    Attributes
    ----------
    met
        Whether a pass took any of them.
    found
        What each computes, in the order of the forward pass; None where that is no line. Filled by the first pass that
        looks through them, on noise: a clip of one colour tells no scale.
    learned
        Whether that pass is over.
    passes
        By a digest of what was taken out, tensors of another size that were made then, for two different clips.
    """

    met: bool = False
    found: list[Rescaling | None] = field(default_factory=list)
    learned: bool = False
    passes: dict[str, dict[str, ForwardConstant]] = field(default_factory=dict)

    @property
    def constants(self) -> tuple[ForwardConstant, ...]:
        """What forward made of numbers that do not depend on the clip, after it took values of the clip out."""
        if len(self.passes) < CLIPS:
            return ()
        first, second = self.passes.values()
        return tuple(first[key] for key in first if key in second)


@contextmanager
def followed(detours: Detours, *, slopes: bool) -> Iterator[None]:
    """Let tensors that forward makes of numbers depend on what it took out as numbers before, while active.

    With `slopes` they have one where what lies between is known; without they have none, as in training.
    """
    follower = _Follower(detours, slopes)
    with ExitStack() as places:
        for name in _MAKERS:
            places.callback(setattr, torch, name, vars(torch)[name])
            setattr(torch, name, follower.maker(vars(torch)[name]))
        for name in (*_TAKERS, *_MAKING_METHODS):
            places.callback(delattr, torch.Tensor, name)
            kind = follower.taker if name in _TAKERS else follower.method
            setattr(torch.Tensor, name, kind(getattr(torch._C.TensorBase, name)))
        follower.places = places
        try:
            yield
            follower.close()
        finally:
            detours.learned |= slopes


class _Follower:
    def __init__(self, detours: Detours, slopes: bool) -> None:
        self.detours, self.slopes = detours, slopes
        self.taken: list[Tensor] = []
        self.others: dict[str, ForwardConstant] = {}
        self.made = 0
        self.places = ExitStack()

    def watch(self) -> None:
        """Follow `torch.Tensor(data)` too until the pass ends, from when numbers were taken out on.

        Not before: torch's compiler, which a forward pass may import, cannot be imported while this is in place.
        """
        self.places.callback(delattr, torch.Tensor, "__new__")
        torch.Tensor.__new__ = self.legacy(torch._C.TensorBase.__new__)  # type: ignore[method-assign]

    def taker(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a method that hands out a tensor's numbers, and notes the tensor."""

        def take(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
            if tensor.is_floating_point():
                if not self.taken:
                    self.watch()
                self.taken.append(tensor)
                self.detours.met = True
            # Modes would call what is called in its place here.
            with torch._C.DisableTorchFunction():
                # Where `detach` keeps slopes, the numbers of what was detached are asked for.
                return function(tensor.detach() if self.slopes else tensor, *args, **kwargs)

        return take

    def maker(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that makes a tensor of numbers, and ties it to what these may be made of."""

        def make(data: Any, *args: Any, **kwargs: Any) -> Any:
            return self._after(function(data, *args, **kwargs), data)

        return make

    def method(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a method of another tensor that makes one of numbers, as `maker` does."""

        def make(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
            with torch._C.DisableTorchFunction():
                made = function(tensor, *args, **kwargs)
            return self._after(made, args[0] if args else None)

        return make

    def legacy(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return what makes a `torch.Tensor(data)`, as `maker` does; subclasses are made as before."""

        def make(kind: type, *args: Any, **kwargs: Any) -> Any:
            made = function(kind, *args, **kwargs)
            return self._after(made, args[0] if args else None) if kind is torch.Tensor else made

        return make

    def close(self) -> None:
        """End a pass."""
        if self.taken and len(self.detours.passes) < CLIPS:
            self.detours.passes.setdefault(digest(self.taken[0]), self.others)

    def _after(self, made: Tensor, data: Any) -> Tensor:
        if data is None or isinstance(data, (Tensor, int, torch.Size)) or not self.taken or not made.numel():
            return made
        return self._tied(made)

    def _tied(self, made: Tensor) -> Tensor:
        source = next((taken for taken in reversed(self.taken) if taken.numel() == made.numel()), self.taken[-1])
        made = _known(made)
        if source.numel() != made.numel() and len(self.detours.passes) < CLIPS:
            self.others[digest(made)] = ForwardConstant.of(made)
        line = self._line(source, made) if self.slopes and made.is_floating_point() else None
        if line is not None and source.requires_grad:
            slope = line.of(source.reshape(made.shape)).to(made)
            return made + (slope - _without_slope(slope))
        with torch.no_grad():
            return made.add(_without_slope(source).reshape(-1)[0].to(made), alpha=0)

    def _line(self, source: Tensor, made: Tensor) -> Rescaling | None:
        place, self.made = self.made, self.made + 1
        same = source.numel() == made.numel()
        x, y = (_without_slope(value).double() for value in (source.reshape(made.shape) if same else source, made))
        if not self.detours.learned:
            self.detours.found.append(_fitted(x, y) if same else None)
        line = self.detours.found[place] if place < len(self.detours.found) else None
        return line if line is not None and same and line.fits(x, y) else None


def _known(made: Tensor) -> Tensor:
    """Return a copy that what watches operations takes for a blank, which is then tied to the clip."""
    blank = torch.empty_like(made)
    with _disable_current_modes(), torch.no_grad():
        return blank.copy_(made)


def _without_slope(tensor: Tensor) -> Tensor:
    """Return a tensor's numbers, also where `detach` is made to keep slopes."""
    with torch._C.DisableTorchFunction():
        return tensor.detach()


def _fitted(x: Tensor, y: Tensor) -> Rescaling | None:
    """Return the line that leads from `x` to `y`, of one shape and in float64; None where none does."""
    axes = [None, *(axis for axis, extent in enumerate(x.shape) if 1 < extent <= COLOURS)]
    return next((line for axis in axes if (line := _line_along(x, y, axis)) is not None and line.fits(x, y)), None)


def _line_along(x: Tensor, y: Tensor, axis: int | None) -> Rescaling | None:
    first, second = (v.reshape(1, -1) if axis is None else v.movedim(axis, 0).flatten(1) for v in (x, y))
    if first.shape[1] < FEWEST:
        return None
    centred = first - first.mean(1, keepdim=True)
    spread = centred.square().sum(1)
    if not bool((spread > 0).all()):
        return None
    scale = (centred * second).sum(1) / spread
    return Rescaling(axis, scale, second.mean(1) - scale * first.mean(1))
