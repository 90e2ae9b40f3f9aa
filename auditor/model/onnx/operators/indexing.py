"""Reading and writing by index, and tensors made from numbers."""

from typing import Any

import torch
from torch import Tensor

from auditor.model.onnx.graph import DTYPES, Node
from auditor.model.onnx.operators.registry import Function, UnsupportedError, builtin, integers, number, simple


def _wrapped(index: Tensor, size: int, like: Tensor) -> Tensor:
    index = index.to(device=like.device, dtype=torch.int64)
    return torch.where(index < 0, index + size, index)


@builtin("Gather")
def _gather(node: Node) -> Function:
    axis = node.attributes.get("axis", 0)

    def gather(x: Tensor, index: Tensor) -> Tensor:
        at = axis % x.dim()
        rows = _wrapped(index, x.shape[at], x)
        picked = torch.index_select(x, at, rows.reshape(-1))
        return picked.reshape((*x.shape[:at], *index.shape, *x.shape[at + 1 :]))

    return gather


@builtin("GatherElements")
def _gather_elements(node: Node) -> Function:
    axis = node.attributes.get("axis", 0)
    return lambda x, index: torch.gather(x, axis, _wrapped(index, x.shape[axis], x))


@builtin("GatherND")
def _gather_nd(node: Node) -> Function:
    batch = node.attributes.get("batch_dims", 0)

    def gather(x: Tensor, index: Tensor) -> Tensor:
        leading = [
            torch.arange(x.shape[i], device=x.device).reshape([-1 if j == i else 1 for j in range(index.dim() - 1)])
            for i in range(batch)
        ]
        rows = [_wrapped(index[..., k], x.shape[batch + k], x) for k in range(index.shape[-1])]
        return x[(*leading, *rows)]

    return gather


REDUCE = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


@builtin("ScatterElements", "Scatter")
def _scatter_elements(node: Node) -> Function:
    axis, reduction = node.attributes.get("axis", 0), node.attributes.get("reduction", "none")

    def scatter(x: Tensor, index: Tensor, updates: Tensor) -> Tensor:
        at = _wrapped(index, x.shape[axis], x)
        if reduction == "none":
            return x.scatter(axis, at, updates)
        return x.scatter_reduce(axis, at, updates, REDUCE[reduction])

    return scatter


@builtin("ScatterND")
def _scatter_nd(node: Node) -> Function:
    reduction = node.attributes.get("reduction", "none")

    def scatter(x: Tensor, index: Tensor, updates: Tensor) -> Tensor:
        depth = index.shape[-1]
        columns = tuple(_wrapped(index[..., k], x.shape[k], x) for k in range(depth))
        if reduction in ("none", "add"):
            return x.index_put(columns, updates, accumulate=reduction == "add")
        flat = torch.zeros_like(columns[0])
        for k in range(depth):
            flat = flat * x.shape[k] + columns[k]
        table = x.reshape(-1, *x.shape[depth:])
        rows = flat.reshape(-1, *[1] * (x.dim() - depth)).expand(-1, *x.shape[depth:])
        return table.scatter_reduce(0, rows, updates.reshape(rows.shape), REDUCE[reduction]).reshape(x.shape)

    return scatter


@builtin("OneHot", numbers=(1,))
def _one_hot(node: Node) -> Function:
    axis = node.attributes.get("axis", -1)

    def one_hot(index: Tensor, depth: Any, values: Tensor) -> Tensor:
        size = int(number(depth, 1))
        hot = (_wrapped(index, size, values)[..., None] == torch.arange(size, device=values.device)).movedim(-1, axis)
        return torch.where(hot, values[1], values[0])

    return one_hot


@builtin("Trilu", numbers=(1,))
def _triangle(node: Node) -> Function:
    cut = torch.triu if node.attributes.get("upper", 1) else torch.tril
    return lambda x, k=None: cut(x, int(number(k, 0)))


@builtin("EyeLike")
def _eye(node: Node) -> Function:
    k = node.attributes.get("k", 0)

    def eye(x: Tensor) -> Tensor:
        dtype = DTYPES[node.attributes["dtype"]] if "dtype" in node.attributes else x.dtype
        rows, columns = (torch.arange(extent) for extent in x.shape)
        return (columns[None, :] - rows[:, None] == k).to(dtype)

    return eye


@builtin("Range")
def _range(node: Node) -> Function:
    return lambda start, limit, delta: torch.arange(start.item(), limit.item(), delta.item(), dtype=start.dtype)


@builtin("ConstantOfShape", numbers=(0,))
def _constant_of_shape(node: Node) -> Function:
    value = node.attributes.get("value", torch.zeros(1))
    return lambda shape: torch.full(integers(shape) or (), value.item(), dtype=value.dtype)


simple("NonZero", lambda x: torch.nonzero(x).t())


@builtin("Compress")
def _compress(node: Node) -> Function:
    axis = node.attributes.get("axis")

    def compress(x: Tensor, keep: Tensor) -> Tensor:
        rows = torch.nonzero(keep).reshape(-1).to(x.device)
        return x.reshape(-1)[rows] if axis is None else x.index_select(axis, rows)

    return compress


@builtin("ReverseSequence")
def _reverse_sequence(node: Node) -> Function:
    time, batch = node.attributes.get("time_axis", 0), node.attributes.get("batch_axis", 1)
    if {time, batch} != {0, 1}:
        raise UnsupportedError("ReverseSequence over axes other than the first two")

    def reverse(x: Tensor, lengths: Tensor) -> Tensor:
        steps = torch.arange(x.shape[time]).reshape(-1, 1)
        ends = lengths.to(torch.int64).reshape(1, -1)
        order = torch.where(steps < ends, ends - 1 - steps, steps).to(x.device)
        rows = torch.arange(x.shape[batch], device=x.device).reshape(1, -1)
        return x[order, rows] if time == 0 else x.transpose(0, 1)[order, rows].transpose(0, 1)

    return reverse


@builtin("TensorScatter")
def _tensor_scatter(node: Node) -> Function:
    axis, circular = node.attributes.get("axis", -2), node.attributes.get("mode", "linear") == "circular"

    def scatter(past: Tensor, update: Tensor, begins: Tensor | None = None) -> Tensor:
        at = axis % past.dim()
        steps = torch.arange(update.shape[at], device=past.device)
        first = past.new_zeros(past.shape[0]).long() if begins is None else begins.to(past.device).long()
        rows = first[:, None] + steps
        rows = rows % past.shape[at] if circular else rows
        shape = [past.shape[0], *[1] * (past.dim() - 1)]
        shape[at] = len(steps)
        return past.scatter(at, rows.reshape(shape).expand(update.shape), update)

    return scatter
