"""The table of ONNX operators: each entry turns a node into a function of tensors.

A builder reads the node's attributes once and returns what runs at every call. Operands that older operator sets keep
in attributes and newer ones in inputs are accepted in both places, so that one builder serves every version.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor

from auditor.model.graph import Node

Function: TypeAlias = Callable[..., Any]
Builder: TypeAlias = Callable[[Node], Function]


class UnsupportedError(Exception):
    """A node asks for a variant of its operator that is not implemented; the text says which."""


@dataclass(frozen=True, slots=True)
class Operator:
    """How to build a node, and which of its inputs are shapes, axes or counts: read as Python numbers."""

    build: Builder
    numbers: tuple[int, ...] = ()


OPERATORS: dict[tuple[str, str], Operator] = {}


def operator(*names: str, numbers: tuple[int, ...] = (), domain: str = "") -> Callable[[Builder], Builder]:
    """Register a builder under one or more operator names."""

    def register(build: Builder) -> Builder:
        for name in names:
            OPERATORS[domain, name] = Operator(build, numbers)
        return build

    return register


def simple(name: str, function: Function, domain: str = "") -> None:
    """Register an operator that has no attributes."""
    OPERATORS[domain, name] = Operator(lambda node: function)


def integers(value: Tensor | tuple[Any, ...] | None) -> tuple[int, ...] | None:
    """Return shapes, axes or counts as Python integers; None stays None."""
    if value is None:
        return None
    if isinstance(value, Tensor):
        value = tuple(value.reshape(-1).tolist())
    return tuple(int(v) for v in value)


def number(value: Tensor | tuple[Any, ...] | None, default: float) -> float:
    """Return a single number."""
    if value is None:
        return default
    return value.item() if isinstance(value, Tensor) else value[0]
