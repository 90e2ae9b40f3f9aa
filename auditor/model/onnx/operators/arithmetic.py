"""Elementwise arithmetic, comparisons and logic, with ONNX's integer rules."""

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from auditor.model.onnx.graph import Node
from auditor.model.onnx.operators.registry import Function, builtin, number, simple


def _divide(a: Tensor, b: Tensor) -> Tensor:
    # Where derivatives go through casts, whole numbers of the clip are held as floats; the divisor still tells.
    whole = not (a.is_floating_point() and b.is_floating_point())
    return torch.div(a, b, rounding_mode="trunc") if whole else a / b


def _power(base: Tensor, exponent: Tensor) -> Tensor:
    return torch.pow(base, exponent).to(base.dtype)


def _fold(pair: Callable[[Tensor, Tensor], Tensor]) -> Function:
    return lambda *operands: functools.reduce(pair, operands)


ELEMENTWISE: dict[str, Function] = {
    "Add": torch.add,
    "Sub": torch.sub,
    "Mul": torch.mul,
    "Div": _divide,
    "Pow": _power,
    "Neg": torch.neg,
    "Abs": torch.abs,
    "Sign": torch.sign,
    "Sqrt": torch.sqrt,
    "Reciprocal": torch.reciprocal,
    "Exp": torch.exp,
    "Log": torch.log,
    "Erf": torch.erf,
    "Floor": torch.floor,
    "Ceil": torch.ceil,
    "Round": torch.round,
    "Sin": torch.sin,
    "Cos": torch.cos,
    "Tan": torch.tan,
    "Asin": torch.asin,
    "Acos": torch.acos,
    "Atan": torch.atan,
    "Sinh": torch.sinh,
    "Cosh": torch.cosh,
    "Asinh": torch.asinh,
    "Acosh": torch.acosh,
    "Atanh": torch.atanh,
    "Sum": _fold(torch.add),
    "Mean": lambda *operands: functools.reduce(torch.add, operands) / len(operands),
    "Min": _fold(torch.minimum),
    "Max": _fold(torch.maximum),
    "Equal": torch.eq,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "And": torch.logical_and,
    "Or": torch.logical_or,
    "Xor": torch.logical_xor,
    "Not": torch.logical_not,
    "BitwiseAnd": torch.bitwise_and,
    "BitwiseOr": torch.bitwise_or,
    "BitwiseXor": torch.bitwise_xor,
    "BitwiseNot": torch.bitwise_not,
    "IsNaN": torch.isnan,
    "Where": torch.where,
}
for name, function in ELEMENTWISE.items():
    simple(name, function)


@builtin("Mod")
def _modulo(node: Node) -> Function:
    return torch.fmod if node.attributes.get("fmod") else torch.remainder


@builtin("BitShift")
def _shift(node: Node) -> Function:
    return torch.bitwise_left_shift if node.attributes["direction"] == "LEFT" else torch.bitwise_right_shift


@builtin("IsInf")
def _is_infinite(node: Node) -> Function:
    negative, positive = node.attributes.get("detect_negative", 1), node.attributes.get("detect_positive", 1)

    def is_infinite(x: Tensor) -> Tensor:
        return torch.isinf(x) & (((x < 0) & bool(negative)) | ((x > 0) & bool(positive)))

    return is_infinite


@builtin("CumSum", "CumProd", numbers=(1,))
def _cumulative(node: Node) -> Function:
    exclusive, backwards = node.attributes.get("exclusive", 0), node.attributes.get("reverse", 0)
    accumulate, neutral = (torch.cumsum, 0) if node.operator == "CumSum" else (torch.cumprod, 1)

    def cumulative(x: Tensor, axis: Tensor) -> Tensor:
        dim = int(number(axis, 0))
        ordered = x.flip(dim) if backwards else x
        if exclusive:
            first = torch.full_like(ordered.narrow(dim, 0, 1), neutral)
            ordered = torch.cat([first, ordered.narrow(dim, 0, x.shape[dim] - 1)], dim)
        total = accumulate(ordered, dim).to(x.dtype)
        return total.flip(dim) if backwards else total

    return cumulative
