"""Sequences of tensors as Python lists; every operation returns a new list."""

from typing import Any

import torch
from torch import Tensor

from auditor.model.onnx.graph import Node
from auditor.model.onnx.operators.registry import Function, builtin, integers, number, simple

simple("SequenceEmpty", list)
simple("SequenceConstruct", lambda *items: list(items))
simple("SequenceLength", lambda items: torch.tensor(len(items)))


@builtin("SequenceAt", numbers=(1,))
def _at(node: Node) -> Function:
    return lambda items, position: items[int(number(position, 0))]


@builtin("SequenceInsert", numbers=(2,))
def _insert(node: Node) -> Function:
    def insert(items: list[Tensor], item: Tensor, position: Any = None) -> list[Tensor]:
        at = int(number(position, len(items)))
        at = at + len(items) if at < 0 else at
        return [*items[:at], item, *items[at:]]

    return insert


@builtin("SequenceErase", numbers=(1,))
def _erase(node: Node) -> Function:
    def erase(items: list[Tensor], position: Any = None) -> list[Tensor]:
        at = int(number(position, -1)) % len(items)
        return [*items[:at], *items[at + 1 :]]

    return erase


@builtin("ConcatFromSequence")
def _join(node: Node) -> Function:
    axis, stack = node.attributes["axis"], node.attributes.get("new_axis", 0)
    return lambda items: torch.stack(items, axis) if stack else torch.cat(items, axis)


@builtin("SplitToSequence", numbers=(1,))
def _cut(node: Node) -> Function:
    axis, keep = node.attributes.get("axis", 0), node.attributes.get("keepdims", 1)

    def cut(x: Tensor, sizes: Any = None) -> list[Tensor]:
        if sizes is None:
            return [part if keep else part.squeeze(axis) for part in torch.split(x, 1, axis)]
        given = integers(sizes) or ()
        scalar = len(given) == 1 and not (isinstance(sizes, Tensor) and sizes.dim())
        return list(torch.split(x, given[0] if scalar else list(given), axis))

    return cut
