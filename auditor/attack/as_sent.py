"""Matching against an update that was compressed: the simulated gradient goes through the client's own compression."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from auditor.attack.matching.objective import Cosine, Objective


@runtime_checkable
class Compression(Protocol):
    """What a client does to a gradient before it sends it; part of the protocol, so the attacker knows it."""

    def __call__(self, ours: Tensor, theirs: Tensor) -> Tensor:
        """Return what of `ours` would have been sent; `theirs` is what was sent for the same parameter."""
        ...


@dataclass(frozen=True)
class Sparsified:
    """Top-k or random sparsification: the entries that were sent are those that are not zero."""

    def __call__(self, ours: Tensor, theirs: Tensor) -> Tensor:
        """Return ours where theirs was sent, else zero."""
        return ours * (theirs != 0.0)


@dataclass(frozen=True)
class Sign:
    """signSGD (Bernstein et al. 2018, arXiv 1802.04434): signs, times whatever single scale was sent."""

    def __call__(self, ours: Tensor, theirs: Tensor) -> Tensor:
        """Return sign(ours) at the scale of theirs."""
        return ours.sign() * theirs.abs().amax()


@dataclass(frozen=True)
class Quantised:
    """Uniform quantisation to `bits` by parameter, symmetric, its step set by the largest entry that was sent.

    Attributes
    ----------
    bits
        8 gives 255 levels: -127 to 127 steps.
    """

    bits: int = 8

    def __call__(self, ours: Tensor, theirs: Tensor) -> Tensor:
        """Return ours at the nearest level, beyond the last one at the last one."""
        levels = 2 ** (self.bits - 1) - 1
        step = (theirs.abs().amax() / levels).clamp(min=1e-30)
        return (ours / step).round().clamp(-levels, levels) * step


@dataclass(frozen=True)
class AsSent:
    """objective(C(g), g*): both updates as they travel, with C's derivative taken as the identity where C has none.

    The straight-through estimator (Bengio et al. 2013, arXiv 1308.3432). Without it rounding and signs have no slope;
    with the raw gradient instead of C(g) the distance is not zero at the truth. Defences are to be audited by the
    attack that knows them.
    """

    compression: Compression
    objective: Objective = field(default_factory=Cosine)

    def __call__(self, ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> Float[Tensor, ""]:
        """Return the distance."""
        return self.objective({n: _through(self.compression, ours[n], g) for n, g in theirs.items()}, theirs)


def _through(compression: Compression, ours: Tensor, theirs: Tensor) -> Tensor:
    if isinstance(compression, Sparsified):  # linear in ours: its derivative is its own
        return compression(ours, theirs)
    with torch.no_grad():
        shift = compression(ours, theirs) - ours
    return ours + shift
