"""The shapes and words that records are made of."""

from typing import Literal, TypeAlias

from jaxtyping import Float, Int
from torch import Tensor

Clips: TypeAlias = Float[Tensor, "clip frame channel height width"]
Clip: TypeAlias = Float[Tensor, "frame channel height width"]
Labels: TypeAlias = Int[Tensor, " clip"]
Logits: TypeAlias = Float[Tensor, "clip class"]

BatchNormMode = Literal["eval", "train"]
Algorithm = Literal["FedSGD", "FedAvg"]
TemporalPool = Literal["each", "mean", "last", "max"]
DropoutMode = Literal["off", "on"]
Join = Literal["none", "sequence", "flatten", "pool", "pool-sequence", "mean"]
Activation = Literal["none", "softmax", "log-softmax", "sigmoid"]
