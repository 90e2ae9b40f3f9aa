"""What a descent moves, in place of the clips themselves."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from auditor.records import Clips


class Variables(Protocol):
    """A parametrisation of clips of one shape."""

    def of(self, clips: Clips) -> Tensor:
        """Return the variable that stands for these clips."""
        ...

    def clips(self, variable: Tensor, progress: float) -> Clips:
        """Return the clips that the loss sees at this share of the descent, differentiably."""
        ...

    def confine(self, variable: Tensor) -> None:
        """Put the variable back into its box, in place."""
        ...


class Parametrisation(Protocol):
    """A choice of variables, to be bound to a shape."""

    def bind(self, like: Clips) -> Variables:
        """Return the variables for clips of this shape, precision and device."""
        ...


@dataclass(frozen=True)
class Pixels:
    """The pixels themselves, in the box [0, 1]."""

    def bind(self, like: Clips) -> "Pixels":
        """Return itself."""
        return self

    def of(self, clips: Clips) -> Tensor:
        """Return a copy."""
        return clips.clone()

    def clips(self, variable: Tensor, progress: float) -> Clips:
        """Return the variable."""
        return variable

    def confine(self, variable: Tensor) -> None:
        """Clamp to [0, 1]."""
        with torch.no_grad():
            variable.clamp_(0.0, 1.0)
