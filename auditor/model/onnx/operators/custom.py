"""How a user's Python file declares operators: see docs/operators.md and `--onnx-ops`.

    from auditor import operator

    @operator("GatedConv", domain="com.example", weights=(1, 2))
    def gated_conv(attributes):
        stride = attributes.get("stride", 1)

        def forward(x, weight, bias=None):
            value, gate = torch.nn.functional.conv3d(x, weight, bias, stride).chunk(2, 1)
            return value * torch.sigmoid(gate)

        return forward

A declaration only marks the function. Nothing is registered until a load is given the file, and only for that load.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from auditor.model.onnx.graph import Node
from auditor.model.onnx.operators.registry import Function, Operator
from auditor.text import printable

UserBuilder: TypeAlias = Callable[[Mapping[str, Any]], Function]
Declared = TypeVar("Declared", bound=UserBuilder)
MARK = "__fl_audit_operators__"


@dataclass(frozen=True, slots=True)
class Declaration:
    """What `operator` was told."""

    names: tuple[str, ...]
    domain: str
    weights: tuple[int, ...]
    numbers: tuple[int, ...]


def operator(
    *names: str, domain: str = "", weights: tuple[int, ...] = (), numbers: tuple[int, ...] = ()
) -> Callable[[Declared], Declared]:
    """Declare that a function builds one or more ONNX operators.

    The decorated function gets a node's attributes (numbers, texts, tuples of them, tensors) and returns the function
    that runs at every call: it gets one tensor for every input (None for one that is left out) and returns a tensor,
    or a tuple of them. It must be made of torch operations that can be differentiated twice.

    Parameters
    ----------
    names
        Operator types, as the file spells them.
    domain
        Their domain; empty for ONNX's own, whose operators may be replaced so.
    weights
        Positions of the inputs that hold weights, from 0: float initializers there become parameters.
    numbers
        Positions of the inputs that hold shapes, axes or counts: given as a tuple of Python numbers. They may not
        depend on the clip.

    Raises
    ------
    TypeError, ValueError
        The declaration makes no sense; reported in one line with the name of the file.
    """
    if not names or not all(isinstance(name, str) and name for name in names):
        raise TypeError('name the operators: @operator("MyOperator", domain="my.domain")')
    if any(not isinstance(place, int) or place < 0 for place in (*weights, *numbers)):
        raise ValueError("weights and numbers are positions of inputs, counted from 0")
    told = Declaration(names, "" if domain == "ai.onnx" else domain, tuple(weights), tuple(numbers))

    def declare(build: Declared) -> Declared:
        setattr(build, MARK, (*getattr(build, MARK, ()), told))
        return build

    return declare


def declared(namespace: Mapping[str, Any], origin: str) -> dict[tuple[str, str], Operator]:
    """Return the operators that the functions of a module declare, with errors that name the file they come from."""
    found: dict[tuple[str, str], Operator] = {}
    for build in namespace.values():
        for told in getattr(build, MARK, ()) if callable(build) else ():
            for name in told.names:
                found[told.domain, name] = Operator(_builder(build, name, origin), told.numbers, told.weights, origin)
    return found


class UserOperatorError(Exception):
    """A user's operator raised; the text says which, from which file, and what."""


def _builder(build: UserBuilder, name: str, origin: str) -> Callable[[Node], Function]:
    def at_node(node: Node) -> Function:
        try:
            function = build(node.attributes)
        except Exception as error:
            raise UserOperatorError(_told(name, origin, error)) from error
        if not callable(function):
            kind = type(function).__name__
            raise UserOperatorError(f"{name} of {origin} returned {kind}, not the function that runs at every call")

        def run(*operands: Any) -> Any:
            try:
                return function(*operands)
            except Exception as error:
                raise UserOperatorError(_told(name, origin, error)) from error

        return run

    return at_node


def _told(name: str, origin: str, error: Exception) -> str:
    text = str(error).splitlines()[0] if str(error) else ""
    return printable(f"{name} of {origin} raised {type(error).__name__}: {text}".rstrip(": "), 300)
