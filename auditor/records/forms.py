"""The shapes and words that records are made of."""

from typing import Literal, TypeAlias

from jaxtyping import Float, Int
from torch import Tensor

from auditor.terms import Algorithm, BatchNormMode, DropoutMode, Join, TemporalPool

__all__ = [
    "Activation",
    "Algorithm",
    "BatchNormMode",
    "Clip",
    "Clips",
    "DropoutMode",
    "Join",
    "Labels",
    "Logits",
    "TemporalPool",
]

Clips: TypeAlias = Float[Tensor, "clip frame channel height width"]
Clip: TypeAlias = Float[Tensor, "frame channel height width"]
Labels: TypeAlias = Int[Tensor, " clip"]
Logits: TypeAlias = Float[Tensor, "clip class"]

Activation = Literal["none", "softmax", "log-softmax", "sigmoid"]
