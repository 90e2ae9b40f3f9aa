"""A convolution or matrix product that reads an unknown value behind units that may be open or closed."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from auditor.attack.recursion.subnetwork import Operation
from auditor.attack.recursion.weight_system import columns, equation_rows

# Entries of the largest matrix (0.5 GB), before it is cut into classes.
_ENTRIES = 6e7


@dataclass(frozen=True)
class MaskedReading:
    """A convolution or matrix product that reads the unknown value, and what is known of it.

    Attributes
    ----------
    cotangent
        The loss's gradient at its output, with the undecided units as they are now.
    units
        What each undecided unit adds to it when open; zero elsewhere.
    open
        Which of them are open now.
    gradient
        Of its weight, as sent.
    """

    operation: Operation
    cotangent: Tensor
    gradient: Tensor
    units: Tensor | None = None
    open: Tensor | None = None

    @property
    def modulus(self) -> tuple[int, ...]:
        """Strides along the axes of positions."""
        settings = self.operation.convolution
        return () if settings is None else tuple(settings["stride"])

    def flipped(self, which: Tensor) -> "MaskedReading":
        """Return the reading with some undecided units the other way."""
        assert self.units is not None
        assert self.open is not None
        change = torch.where(self.open, -self.units, self.units) * which
        return replace(self, cotangent=self.cotangent + change, open=self.open ^ which)

    @property
    def size(self) -> tuple[int, int]:
        """Output channels and taps of the weight."""
        settings = self.operation.convolution
        channels = columns(self.cotangent, self.operation).shape[1]
        return channels, 1 if settings is None else math.prod(settings["weight"].shape[2:])

    @property
    def groups(self) -> int:
        """Groups of channels of a convolution that read nothing of each other's inputs."""
        settings = self.operation.convolution
        return 1 if settings is None else int(settings["groups"])

    @property
    def equations(self) -> int:
        """How many there are for each input channel."""
        return math.prod(self.size) // self.groups

    def rows(self) -> Tensor | None:
        """Return the matrix of the equations (`equation_rows`), in float64; None where it is too large for memory."""
        return equation_rows(self.operation, self.cotangent.double(), _ENTRIES)
