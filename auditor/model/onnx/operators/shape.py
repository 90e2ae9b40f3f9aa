"""Moving data without computing: shapes, axes, joining, cutting, padding and casting."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from auditor.model.onnx.graph import DTYPES, Node
from auditor.model.onnx.operators.registry import Function, UnsupportedError, builtin, integers, number, simple

MOST_AXES = 64  # of a torch tensor in elementwise operations

simple("Identity", lambda x: x)
# Dropout is off, as in every gradient attack: what a client drops at random, nobody can repeat.
simple("Dropout", lambda x, *rest: x)
simple("Size", lambda x: torch.tensor(x.numel()))


def resolved(shape: tuple[int, ...], x: Tensor, allow_zero: bool) -> tuple[int, ...]:
    """Return the target of a Reshape with zeros replaced by the input's own extents."""
    return shape if allow_zero else tuple(x.shape[i] if extent == 0 else extent for i, extent in enumerate(shape))


@builtin("Reshape", numbers=(1,))
def _reshape(node: Node) -> Function:
    allow_zero = bool(node.attributes.get("allowzero", 0))
    return lambda x, shape: x.reshape(resolved(integers(shape) or (), x, allow_zero))


@builtin("Flatten")
def _flatten(node: Node) -> Function:
    axis = node.attributes.get("axis", 1)

    def flatten(x: Tensor) -> Tensor:
        at = axis if axis >= 0 else axis + x.dim()
        return x.reshape(math.prod(x.shape[:at]), math.prod(x.shape[at:]))

    return flatten


@builtin("Transpose")
def _transpose(node: Node) -> Function:
    order = node.attributes.get("perm")
    return lambda x: x.permute(order or tuple(reversed(range(x.dim()))))


@builtin("Shape")
def _shape(node: Node) -> Function:
    cut = slice(node.attributes.get("start", 0), node.attributes.get("end"))
    return lambda x: torch.tensor(list(x.shape)[cut], dtype=torch.int64)


@builtin("Unsqueeze", numbers=(1,))
def _unsqueeze(node: Node) -> Function:
    given = node.attributes.get("axes")

    def unsqueeze(x: Tensor, axes: Tensor | None = None) -> Tensor:
        at: tuple[int, ...] = (given if axes is None else integers(axes)) or ()
        if x.dim() + len(at) > MOST_AXES:
            raise UnsupportedError(f"Unsqueeze to {x.dim() + len(at)} axes (at most {MOST_AXES})")
        shape = list(x.shape)
        for axis in sorted(axis % (x.dim() + len(at)) for axis in at):
            shape.insert(axis, 1)
        return x.reshape(shape)

    return unsqueeze


@builtin("Squeeze", numbers=(1,))
def _squeeze(node: Node) -> Function:
    given = node.attributes.get("axes")

    def squeeze(x: Tensor, axes: Tensor | None = None) -> Tensor:
        at = given if axes is None else integers(axes)
        return x.squeeze() if at is None else x.squeeze(tuple(at))

    return squeeze


@builtin("Concat")
def _concatenate(node: Node) -> Function:
    axis = node.attributes["axis"]
    return lambda *parts: torch.cat(parts, axis)


@builtin("Split", numbers=(1,))
def _split(node: Node) -> Function:
    axis, given = node.attributes.get("axis", 0), node.attributes.get("split")
    count = node.attributes.get("num_outputs", len(node.outputs))

    def split(x: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, ...]:
        cut = given if sizes is None else integers(sizes)
        if cut is None:
            if count > x.shape[axis]:
                raise UnsupportedError(f"Split of {x.shape[axis]} rows into {count} parts")
            size = -(-x.shape[axis] // count)
            cut = [min(size, x.shape[axis] - i * size) for i in range(count)]
        return tuple(torch.split(x, list(cut), axis))

    return split


@builtin("Slice", numbers=(1, 2, 3, 4))
def _slice(node: Node) -> Function:
    attributes = node.attributes

    def cut(x: Tensor, starts: Any = None, ends: Any = None, axes: Any = None, steps: Any = None) -> Tensor:
        begin = attributes.get("starts", ()) if starts is None else integers(starts) or ()
        end = attributes.get("ends", ()) if ends is None else integers(ends) or ()
        over = (attributes.get("axes") if axes is None else integers(axes)) or tuple(range(len(begin)))
        by = integers(steps) or (1,) * len(begin)
        index = [slice(None)] * x.dim()
        for first, last, axis, step in zip(begin, end, over, by, strict=True):
            extent = range(x.shape[axis])[slice(first, None if step < 0 and last < -x.shape[axis] else last, step)]
            if step > 0:
                index[axis] = slice(extent.start, max(extent.start, extent.stop), step)
            else:
                x = x.index_select(axis, torch.tensor(list(extent), dtype=torch.int64, device=x.device))
        return x[tuple(index)]

    return cut


def broadcast(shape: Sequence[int], target: Sequence[int]) -> tuple[int, ...]:
    """Return the shape of a mutual broadcast, as Expand defines it.

    >>> broadcast((3, 1), (2, 1, 6))
    (2, 3, 6)
    """
    pairs = itertools.zip_longest(reversed(shape), reversed(target), fillvalue=1)
    return tuple(b if a == 1 else a for a, b in pairs)[::-1]


@builtin("Expand", numbers=(1,))
def _expand(node: Node) -> Function:
    return lambda x, shape: x.expand(broadcast(x.shape, integers(shape) or ()))


@builtin("Tile", numbers=(1,))
def _tile(node: Node) -> Function:
    return lambda x, repeats: x.repeat(integers(repeats) or ())


@builtin("Cast")
def _cast(node: Node) -> Function:
    if node.attributes["to"] not in DTYPES:
        raise UnsupportedError("Cast to a type that torch does not compute with")
    dtype = DTYPES[node.attributes["to"]]

    # Floats keep their width, so that a float64 copy of the model stays float64 throughout.
    def cast(x: Tensor) -> Tensor:
        return x if x.is_floating_point() and dtype.is_floating_point else x.to(dtype)

    return cast


simple("CastLike", lambda x, like: x.to(like.dtype))


@builtin("Pad", numbers=(1, 2, 3))
def _pad(node: Node) -> Function:
    given, mode = node.attributes.get("pads"), node.attributes.get("mode", "constant")
    fill = node.attributes.get("value", 0.0)

    def pad(x: Tensor, pads: Any = None, value: Any = None, axes: Any = None) -> Tensor:
        amounts: tuple[int, ...] = (given if pads is None else integers(pads)) or ()
        n = len(amounts) // 2
        over = integers(axes) or tuple(range(n))
        both = {axis % x.dim(): (amounts[i], amounts[i + n]) for i, axis in enumerate(over)}
        if mode == "constant":
            flat = [amount for axis in reversed(range(x.dim())) for amount in both.get(axis, (0, 0))]
            if x.dtype == torch.bool:
                return F.pad(x.to(torch.uint8), flat, value=number(value, fill)).bool()
            return F.pad(x, flat, value=number(value, fill))
        for axis, (before, after) in both.items():
            if before or after:
                x = x.index_select(axis, _border(x.shape[axis], before, after, mode).to(x.device))
        return x

    return pad


def _border(size: int, before: int, after: int, mode: str) -> Tensor:
    index = torch.arange(-before, size + after)
    if mode == "edge":
        return index.clamp(0, size - 1)
    if mode == "wrap":
        return index % size
    if mode == "reflect":
        period = max(2 * (size - 1), 1)
        index = index % period
        return torch.where(index >= size, period - index, index)
    raise UnsupportedError(f"Pad in mode {mode}")


@builtin("DepthToSpace", "SpaceToDepth")
def _blocks(node: Node) -> Function:
    block, mode = node.attributes["blocksize"], node.attributes.get("mode", "DCR")

    def to_space(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        if mode == "CRD":
            return F.pixel_shuffle(x, block)
        cells = x.reshape(n, block, block, c // block**2, h, w).permute(0, 3, 4, 1, 5, 2)
        return cells.reshape(n, c // block**2, h * block, w * block)

    def to_depth(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        if mode == "CRD":
            return F.pixel_unshuffle(x, block)
        cells = x.reshape(n, c, h // block, block, w // block, block).permute(0, 3, 5, 1, 2, 4)
        return cells.reshape(n, c * block**2, h // block, w // block)

    return to_space if node.operator == "DepthToSpace" else to_depth


@builtin("CenterCropPad", numbers=(1,))
def _center(node: Node) -> Function:
    axes = node.attributes.get("axes")

    def center(x: Tensor, shape: Any) -> Tensor:
        wanted = integers(shape) or ()
        for axis, target in zip(axes or range(len(wanted)), wanted, strict=True):
            size, at = x.shape[axis], axis % x.dim()
            if target < size:
                x = x.narrow(at, (size - target) // 2, target)
            elif target > size:
                before = (target - size) // 2
                x = F.pad(x, [0, 0] * (x.dim() - 1 - at) + [before, target - size - before])
        return x

    return center
