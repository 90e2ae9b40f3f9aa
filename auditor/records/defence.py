"""What a client does to its update before it sends it, and what an attacker who knows that makes of it."""

import abc
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, Self, TypeVar

import torch
from torch import Tensor

# What a defence leaves of an update, as an attacker sees it: its size is unknown (scale), numbers are added to it
# (noise), entries are zero and seen to be (mask), cut at a limit (clamp), rounded to few levels (rounding) or to half
# precision (precision), or their signs alone are left (sign); parameters are missing (omission); several clients are
# added up (sum).
Effect = Literal["scale", "noise", "mask", "clamp", "rounding", "precision", "sign", "omission", "sum"]
Place = Literal["client", "server"]
# Negative entries stay negative, and others do not become so, under these.
_SIGNS_KEPT: frozenset[Effect] = frozenset({"scale", "mask", "clamp", "rounding", "precision", "sign", "omission"})


class Defence(abc.ABC):
    """A function of the update, and the same function as an attacker simulates it; both are public, and pure.

    Subclasses are frozen dataclasses; `str` is what the user writes for them.

    Attributes
    ----------
    name
        What the user writes before the colon.
    form
        The whole of what the user writes, with the range of its number.
    effect
        What it leaves of an update; an attack says by it which defences it meets.
    acts
        Where: a client sends what it leaves; a server applies it after averaging, and sees updates without it.
    """

    name: ClassVar[str]
    form: ClassVar[str]
    effect: ClassVar[Effect]
    acts: Place = "client"

    @classmethod
    @abc.abstractmethod
    def of(cls, number: str) -> Self:
        """Return the defence with the number that stands behind the colon, "" without one.

        Raises
        ------
        ValueError
            It is not a number, or out of range.
        """

    @property
    @abc.abstractmethod
    def told(self) -> str:
        """What it does, in one clause for people."""

    @abc.abstractmethod
    def apply(self, update: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Return what is sent in place of `update`, by parameter, of the same shapes; draws come from `generator`."""

    @abc.abstractmethod
    def simulate(self, ours: Mapping[str, Tensor], sent: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        """Return what of `ours` would have been sent, differentiable in it.

        `sent` is what the client sent; None where another defence came after this one and hides it. For the client's
        own update the result is `sent`, unless the defence draws at random.
        """

    def deviation(self, sent: Mapping[str, Tensor]) -> dict[str, float]:
        """Return the standard deviation of what it adds to an entry, by parameter of what was `sent`: noise, rounding.

        In units of the update. Empty for a defence that adds nothing.
        """
        return {}

    def gain(self, sent: Mapping[str, Tensor]) -> dict[str, float]:
        """Return by how much it scales a parameter, and noise in it, on average; 1 where it is not named."""
        return {}


_Known = TypeVar("_Known", bound=Defence)


def at_client(defences: Sequence[_Known]) -> tuple[_Known, ...]:
    """Return the defences that act before an update is sent: an honest server sees it without the others."""
    return tuple(d for d in defences if d.acts == "client")


def split_at_sum(defences: Sequence[_Known]) -> tuple[tuple[_Known, ...], tuple[_Known, ...]]:
    """Return what every client does by itself, and what is done to the sum of several clients.

    Without a sum there is one client, and everything is done to its update.
    """
    place = max((k + 1 for k, d in enumerate(defences) if d.effect == "sum"), default=0)
    return tuple(defences[:place]), tuple(defences[place:])


def deviation_of(defences: Sequence[Defence], sent: Mapping[str, Tensor], clients: int = 1) -> dict[str, float]:
    """Return the standard deviation of everything that defences add to an entry, by parameter; empty for nothing.

    Errors of several steps are taken as independent, and those of `clients` whose average is seen as well.
    """
    square: dict[str, float] = {}
    alone, _ = split_at_sum(defences)
    for place, defence in enumerate(defences):
        square.update({n: square[n] * by**2 for n, by in defence.gain(sent).items() if n in square})
        share = clients if place < len(alone) else 1
        for name, value in defence.deviation(sent).items():
            square[name] = square.get(name, 0.0) + value**2 / share
    return {name: value**0.5 for name, value in square.items()}


def signs_kept(defences: Sequence[Defence]) -> bool:
    """Tell whether every entry that is negative was so before the defences."""
    return all(d.effect in _SIGNS_KEPT for d in defences)


def straight_through(ours: Tensor, compressed: Tensor) -> Tensor:
    """Return `compressed` with the derivative of `ours` (Bengio et al. 2013, arXiv 1308.3432).

    Without it rounding and signs have no slope; with the raw gradient the distance is not zero at the truth.
    """
    return ours + (compressed - ours).detach()


def written(value: float) -> str:
    """Return a number as a user writes it: short where that is exact."""
    short = f"{value:g}"
    return short if float(short) == value else repr(value)
