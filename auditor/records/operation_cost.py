"""What one operation on tensors costs on a reference machine, from its name and shapes alone."""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor

# The reference machine: one core of a server of 2024, as PyTorch uses it while another process takes the other core,
# which makes CPU time 1.4 times as long. Measured over convolutions, products, attention, recurrent nets and
# decompositions, 0.1 to 33 million parameters (benchmarks/README.md).
_PER_OPERATION = 1e-5  # dispatch, allocation and autograd's node
_PER_VIEW = 4e-6
_PER_BYTE = 0.25e-9  # of the largest operand of an operation by element
# Seconds a floating-point operation, in float32; twice that in float64. Convolutions to few channels fill a vector
# unit in part (11, 20 and 35 GFLOP/s measured for 8, 16 and 32), grouped ones least.
_PER_FLOP = 1.0 / 65e9
_CHANNELS, _GROUPED = 48.0, 10.0
# One call of so many operations or more reuses what it read: 160 to 260 GFLOP/s measured, where 65 and 110 are counted.
_LARGE, _REUSE = 4e9, 0.6
# Seconds of decompositions in float64 over m n min(m, n).
_DECOMPOSED: Mapping[str, float] = {
    "aten::_linalg_svd": 0.6e-9,
    "aten::linalg_pinv": 0.6e-9,
    "aten::linalg_eig": 1.5e-9,
    "aten::_linalg_eigh": 0.3e-9,
    "aten::linalg_lstsq": 0.2e-9,
    "aten::linalg_qr": 0.1e-9,
    "aten::geqrf": 0.05e-9,
    "aten::linalg_householder_product": 0.05e-9,
}
_FACTORED = 0.08e-9  # LU, Cholesky and what solves by them
# Solves with a factor that is there: for every entry of the factor and column of the right side.
_SOLVES = ("aten::linalg_solve_triangular", "aten::cholesky_solve", "aten::triangular_solve", "aten::linalg_lu_solve")
_ALGEBRA = ("aten::_linalg", "aten::linalg", "aten::cholesky", "aten::triangular", "aten::geqrf")
# These go over their entries once.
_NORMS = ("aten::linalg_vector_norm", "aten::linalg_cross")
_DOUBLE = (torch.float64, torch.complex64, torch.complex128)

# Takes the operands and the result, returns reference seconds beyond those of any operation.
Cost: TypeAlias = Callable[[tuple[Any, ...], Any], float]


def decomposition_seconds(multiplications: float) -> float:
    """Return the reference seconds of singular value decompositions in float64 with so many m n min(m, n) in all."""
    return _DECOMPOSED["aten::_linalg_svd"] * multiplications


def product_seconds(operations: float) -> float:
    """Return the reference seconds of so many floating-point operations of products in float32."""
    return _PER_FLOP * operations


def operation_seconds(func: Any, args: tuple[Any, ...], made: Any) -> float:
    """Return the reference seconds of an operation that PyTorch dispatched, given its operands and its result."""
    cost = _cost_of(func)
    return _PER_VIEW if cost is None else _PER_OPERATION + cost(args, made)


def seconds_ahead(func: Any, args: tuple[Any, ...]) -> float:
    """Return the reference seconds of a decomposition before it is made; 0 for any other operation."""
    return _algebra(func._schema.name, args, None) if _is_algebra(func) else 0.0


@functools.cache
def _is_algebra(func: Any) -> bool:
    name = func._schema.name
    return name.startswith(_ALGEBRA) and name not in _NORMS


@functools.cache
def _cost_of(func: Any) -> Cost | None:
    """Return the rule of an operation; None for views, which move nothing."""
    if func.is_view:
        return None
    name = func._schema.name
    if name in _PRODUCTS:
        return _PRODUCTS[name]
    if _is_algebra(func):
        return functools.partial(_algebra, name)
    if "scaled_dot_product" in name:
        return functools.partial(_attention, "backward" in name)
    return _by_element


def _by_element(args: tuple[Any, ...], made: Any) -> float:
    """An operation by element goes over the largest of its operands and its result once."""
    largest = made.numel() * made.element_size() if isinstance(made, Tensor) else 0
    for a in args:
        if isinstance(a, Tensor):
            largest = max(largest, a.numel() * a.element_size())
    return _PER_BYTE * largest


def _product(first: int, args: tuple[Any, ...], made: Any) -> float:
    left = args[first]
    return _flops(2.0 * made.numel() * left.shape[-1], left)


def _convolution(args: tuple[Any, ...], made: Any) -> float:
    x, weight, transposed = args[0], args[1], args[6]
    return _convolved(x if transposed else made, weight, args[8])


def _convolution_backward(args: tuple[Any, ...], made: Any) -> float:
    slope, x, weight, transposed = args[0], args[1], args[2], args[7]
    return sum(args[10][:2]) * _convolved(x if transposed else slope, weight, args[9])


def _convolved(positions: Tensor, weight: Tensor, groups: int) -> float:
    slower = _GROUPED if groups > 1 else max(1.0, _CHANNELS / max(weight.shape[:2]))
    read = _PER_BYTE * weight.numel() * weight.element_size()
    operations = 2.0 * positions.numel() * math.prod(weight.shape[1:])
    return slower * (_REUSE if operations >= _LARGE else 1.0) * _flops(operations, weight) + read


def _attention(backward: bool, args: tuple[Any, ...], made: Any) -> float:
    """Two products of queries, keys and values; five on the way back, where the slope comes first."""
    query, key = args[1:3] if backward else args[:2]
    return _flops((10.0 if backward else 4.0) * query.numel() * key.shape[-2], query)


def _algebra(name: str, args: tuple[Any, ...], made: Any) -> float:
    tensors = [a for a in args if isinstance(a, Tensor)]
    matrix = tensors[0]
    if matrix.ndim < 2:
        return 0.0
    *batch, m, n = matrix.shape
    entries = math.prod(batch) * m * n * (1.0 if matrix.dtype in _DOUBLE else 0.5)
    if name in _SOLVES and len(tensors) > 1:
        return 2.0 * _PER_FLOP * entries * tensors[1].shape[-1]
    return _DECOMPOSED.get(name, _FACTORED) * entries * min(m, n)


def _flops(operations: float, operand: Tensor) -> float:
    return _PER_FLOP * operations * (2.0 if operand.dtype in _DOUBLE else 1.0)


_PRODUCTS: Mapping[str, Cost] = {
    "aten::mm": functools.partial(_product, 0),
    "aten::bmm": functools.partial(_product, 0),
    "aten::mv": functools.partial(_product, 0),
    "aten::addmm": functools.partial(_product, 1),
    "aten::baddbmm": functools.partial(_product, 1),
    "aten::addmv": functools.partial(_product, 1),
    "aten::convolution": _convolution,
    "aten::convolution_backward": _convolution_backward,
}
