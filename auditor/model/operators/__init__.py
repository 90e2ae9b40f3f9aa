"""ONNX operators as twice differentiable functions of torch tensors, one file a family."""

from auditor.model.operators import (
    activation,
    arithmetic,
    attention,
    convolution,
    indexing,
    matrix,
    normalisation,
    pooling,
    recurrent,
    reduction,
    resize,
    sequence,
    shape,
)
from auditor.model.operators.registry import OPERATORS, Function, Operator, UnsupportedError, integers

FAMILIES = (
    activation,
    arithmetic,
    attention,
    convolution,
    indexing,
    matrix,
    normalisation,
    pooling,
    recurrent,
    reduction,
    resize,
    sequence,
    shape,
)

__all__ = ["FAMILIES", "OPERATORS", "Function", "Operator", "UnsupportedError", "integers"]
