"""The form of every record, and the shapes and words that records are made of."""

from dataclasses import dataclass, field
from typing import Literal, TypeAlias, TypeVar, dataclass_transform

from jaxtyping import Float, Int
from torch import Tensor

from auditor.terms import Algorithm, BatchNormMode, DropoutMode, Join, Layout, TemporalPool

__all__ = [
    "Activation",
    "Algorithm",
    "BatchNormMode",
    "Clip",
    "Clips",
    "DropoutMode",
    "Join",
    "Label",
    "Labels",
    "Layout",
    "Logits",
    "TemporalPool",
    "record",
]

_T = TypeVar("_T")


@dataclass_transform(frozen_default=True, kw_only_default=True, eq_default=False, field_specifiers=(field,))
def record(cls: type[_T]) -> type[_T]:
    """Make a class a frozen dataclass with keywords only, compared by identity."""
    return dataclass(frozen=True, slots=True, kw_only=True, eq=False)(cls)


Clips: TypeAlias = Float[Tensor, "clip frame channel height width"]
Clip: TypeAlias = Float[Tensor, "frame channel height width"]
Labels: TypeAlias = Int[Tensor, " clip"]
Logits: TypeAlias = Float[Tensor, "clip class"]

Activation = Literal["none", "softmax", "log-softmax", "sigmoid"]
# What a clip is trained as: a class, the set of classes that are present, or a value.
Label: TypeAlias = int | float | tuple[int, ...]
