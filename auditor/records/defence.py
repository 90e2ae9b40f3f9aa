"""What a client does to its update before it sends it, and what an attacker who knows that makes of it."""

import abc
from collections.abc import Mapping
from typing import ClassVar, Self

import torch
from torch import Tensor


class Defence(abc.ABC):
    """A function of the update, and the same function as an attacker simulates it; both are public, and pure.

    Subclasses are frozen dataclasses; `str` is what the user writes for them.

    Attributes
    ----------
    name
        What the user writes before the colon.
    form
        The whole of what the user writes, with the range of its number.
    """

    name: ClassVar[str]
    form: ClassVar[str]

    @classmethod
    @abc.abstractmethod
    def of(cls, number: str) -> Self:
        """Return the defence with the number that stands behind the colon, "" without one.

        Raises
        ------
        ValueError
            It is not a number, or out of range.
        """

    @abc.abstractmethod
    def apply(self, update: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Return what is sent in place of `update`, by parameter, of the same shapes; draws come from `generator`."""

    @abc.abstractmethod
    def simulate(self, ours: Mapping[str, Tensor], sent: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        """Return what of `ours` would have been sent, differentiable in it.

        `sent` is what the client sent; None where another defence came after this one and hides it. For the client's
        own update the result is `sent`, unless the defence draws at random.
        """


def straight_through(ours: Tensor, compressed: Tensor) -> Tensor:
    """Return `compressed` with the derivative of `ours` (Bengio et al. 2013, arXiv 1308.3432).

    Without it rounding and signs have no slope; with the raw gradient the distance is not zero at the truth.
    """
    return ours + (compressed - ours).detach()
