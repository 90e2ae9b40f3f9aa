"""ONNX operators as twice differentiable functions of torch tensors, one file a family."""

from auditor.model.onnx.operators import (
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
    rotary,
    sampling,
    sequence,
    shape,
)
from auditor.model.onnx.operators.custom import operator
from auditor.model.onnx.operators.registry import (
    OPERATORS,
    Function,
    Operator,
    Operators,
    UnsupportedError,
    integers,
)

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
    rotary,
    sampling,
    sequence,
    shape,
)

__all__ = [
    "FAMILIES",
    "OPERATORS",
    "Function",
    "Operator",
    "Operators",
    "UnsupportedError",
    "integers",
    "operator",
]
