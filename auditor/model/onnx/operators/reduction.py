"""Reductions over axes, which are an attribute or an input depending on the operator set."""

from collections.abc import Callable

import torch
from torch import Tensor

from auditor.model.onnx.graph import Node
from auditor.model.onnx.operators.registry import Function, builtin, integers, number

Reduce = Callable[[Tensor, tuple[int, ...], bool], Tensor]


def _mean(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    if x.is_floating_point():
        return x.mean(axes, keepdim=keep)
    return torch.div(x.sum(axes, keepdim=keep), x[0].numel() if not axes else _count(x, axes), rounding_mode="trunc")


def _count(x: Tensor, axes: tuple[int, ...]) -> int:
    count = 1
    for axis in axes:
        count *= x.shape[axis]
    return count


def _product(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    for axis in sorted((axis % x.dim() for axis in axes), reverse=True):
        x = x.prod(axis, keepdim=keep)
    return x


def _nothing(x: Tensor, axes: tuple[int, ...], keep: bool, neutral: str) -> Tensor:
    """Return the extremum of no values: the other end of the type."""
    infinity = float("-inf") if neutral == "min" else float("inf")
    value = infinity if x.is_floating_point() else getattr(torch.iinfo(x.dtype), neutral)
    return torch.full_like(x.sum(axes, keepdim=keep), value, dtype=x.dtype)


def _maximum(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    return x.amax(axes, keepdim=keep) if _count(x, axes) else _nothing(x, axes, keep, "min")


def _minimum(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    return x.amin(axes, keepdim=keep) if _count(x, axes) else _nothing(x, axes, keep, "max")


def _sum(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    return x.sum(axes, keepdim=keep, dtype=x.dtype)


REDUCTIONS: dict[str, Reduce] = {
    "ReduceMean": _mean,
    "ReduceSum": _sum,
    "ReduceMax": _maximum,
    "ReduceMin": _minimum,
    "ReduceProd": _product,
    "ReduceL1": lambda x, axes, keep: x.abs().sum(axes, keepdim=keep),
    "ReduceL2": lambda x, axes, keep: torch.linalg.vector_norm(x, 2, axes, keepdim=keep),
    "ReduceSumSquare": lambda x, axes, keep: x.square().sum(axes, keepdim=keep),
    "ReduceLogSum": lambda x, axes, keep: x.sum(axes, keepdim=keep).log(),
    "ReduceLogSumExp": lambda x, axes, keep: x.logsumexp(axes, keepdim=keep),
}


@builtin(*REDUCTIONS, numbers=(1,))
def _reduction(node: Node) -> Function:
    function = REDUCTIONS[node.operator]
    given, keep = node.attributes.get("axes"), bool(node.attributes.get("keepdims", 1))
    untouched = bool(node.attributes.get("noop_with_empty_axes", 0))

    def reduce(x: Tensor, axes: Tensor | None = None) -> Tensor:
        over = given if axes is None else integers(axes)
        if not over:
            if untouched:
                return function(x.unsqueeze(0), (0,), False)
            over = tuple(range(x.dim()))
        return function(x, tuple(over), keep) if x.dim() else function(x.unsqueeze(0), (0,), False)

    return reduce


@builtin("ArgMax", "ArgMin")
def _arg(node: Node) -> Function:
    axis, keep = node.attributes.get("axis", 0), bool(node.attributes.get("keepdims", 1))
    last = bool(node.attributes.get("select_last_index", 0))
    find = torch.argmax if node.operator == "ArgMax" else torch.argmin

    def arg(x: Tensor) -> Tensor:
        if last:
            return x.shape[axis] - 1 - find(x.flip(axis), axis, keepdim=keep)
        return find(x, axis, keepdim=keep)

    return arg


@builtin("TopK", numbers=(1,))
def _top(node: Node) -> Function:
    axis, largest = node.attributes.get("axis", -1), bool(node.attributes.get("largest", 1))
    fixed = node.attributes.get("k", 1)  # up to opset 9

    def top(x: Tensor, k: Tensor | None = None) -> tuple[Tensor, ...]:
        # Not torch.topk: equal values keep the order of their indices.
        values, indices = torch.sort(x, dim=axis, descending=largest, stable=True)
        size = int(number(k, fixed))
        return values.narrow(axis, 0, size), indices.narrow(axis, 0, size)

    return top
