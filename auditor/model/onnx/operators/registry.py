"""The table of ONNX operators: each entry turns a node into a function of tensors.

A builder reads the node's attributes once and returns what runs at every call. Operands that older operator sets keep
in attributes and newer ones in inputs are accepted in both places, so that one builder serves every version.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor

from auditor.model.onnx.graph import Node

Function: TypeAlias = Callable[..., Any]
Builder: TypeAlias = Callable[[Node], Function]


class UnsupportedError(Exception):
    """A node asks for a variant of its operator that is not implemented; the text says which."""


@dataclass(frozen=True, slots=True)
class Operator:
    """How to build a node, and what its inputs are.

    Attributes
    ----------
    build
        Reads a node's attributes and returns the function of its inputs.
    numbers
        Inputs that are shapes, axes or counts: read as Python numbers.
    weights
        Inputs that hold trained weights, for operators that a user added; `trainable.WEIGHT_SLOTS` tells those of ours.
    origin
        The file that a user's operator comes from; empty for ours.
    """

    build: Builder
    numbers: tuple[int, ...] = ()
    weights: tuple[int, ...] = ()
    origin: str = ""


Operators: TypeAlias = Mapping[tuple[str, str], Operator]
# A value has at most 64 axes, and is cut into at most some thousands of parts.
MOST_NUMBERS = 2**16

OPERATORS: dict[tuple[str, str], Operator] = {}


def builtin(*names: str, numbers: tuple[int, ...] = (), domain: str = "") -> Callable[[Builder], Builder]:
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
        if value.numel() > MOST_NUMBERS:
            raise UnsupportedError(f"a shape, axes or sizes of {value.numel()} numbers")
        value = tuple(value.reshape(-1).tolist())
    return tuple(int(v) for v in value)


def floats(value: Tensor | tuple[Any, ...] | None) -> tuple[float, ...]:
    """Return scales or regions as Python floats; None gives none."""
    if value is None:
        return ()
    return tuple(value.reshape(-1).tolist()) if isinstance(value, Tensor) else tuple(value)


def number(value: Tensor | tuple[Any, ...] | None, default: float) -> float:
    """Return a single number."""
    if value is None:
        return default
    return value.item() if isinstance(value, Tensor) else value[0]
