"""Noise added to every entry of an update: Gaussian, Laplace."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from auditor.federated.clipping import positive
from auditor.records import Defence, Effect, written


@dataclass(frozen=True)
class GaussianNoise(Defence):
    """Add independent normal noise to every entry (the Gaussian mechanism, Dwork & Roth 2014, appendix A)."""

    name: ClassVar[str] = "gaussian"
    form: ClassVar[str] = "gaussian:SIGMA with SIGMA > 0, the standard deviation of every entry's noise"
    effect: ClassVar[Effect] = "noise"
    sigma: float

    @classmethod
    def of(cls, number: str) -> Self:
        """Return the defence with this standard deviation."""
        return cls(positive(number))

    @property
    def told(self) -> str:
        """What it does."""
        return f"normal noise of deviation {self.sigma:.3g} is added to every entry"

    def apply(self, update: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Return the update with noise; drawn where the generator is, so that every device draws the same."""
        return {name: g + self.sigma * torch.randn(g.shape, generator=generator).to(g) for name, g in update.items()}

    def simulate(self, ours: Mapping[str, Tensor], sent: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        """Return ours: the noise has mean zero."""
        return dict(ours)

    def deviation(self, sent: Mapping[str, Tensor]) -> dict[str, float]:
        """Return sigma."""
        return dict.fromkeys(sent, self.sigma)

    def __str__(self) -> str:
        return f"{self.name}:{written(self.sigma)}"


@dataclass(frozen=True)
class RelativeGaussian(Defence):
    """Add normal noise of a share of a percentile of the magnitudes that are not zero, over all parameters together.

    The noise is as large as the update itself has it: no bound on what it hides follows from the share.
    """

    name: ClassVar[str] = "relative-gaussian"
    form: ClassVar[str] = "relative-gaussian:SHARE,PERCENTILE with SHARE > 0 and 0 < PERCENTILE <= 100"
    effect: ClassVar[Effect] = "noise"
    share: float
    percentile: float

    @classmethod
    def of(cls, number: str) -> Self:
        """Return the defence with this share of that percentile."""
        share, percentile = (positive(each) for each in number.split(","))
        if percentile > 100.0:
            raise ValueError(number)
        return cls(share, percentile)

    @property
    def told(self) -> str:
        """What it does."""
        return f"normal noise of {self.share:.3g} times the {self.percentile:g}th percentile of magnitudes is added"

    def apply(self, update: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Return the update with noise."""
        sigma = self._sigma(update)
        return {name: g + sigma * torch.randn(g.shape, generator=generator).to(g) for name, g in update.items()}

    def simulate(self, ours: Mapping[str, Tensor], sent: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        """Return ours: the noise has mean zero."""
        return dict(ours)

    def deviation(self, sent: Mapping[str, Tensor]) -> dict[str, float]:
        """Return the deviation that follows from the percentile of what was sent, noise included: a little too much."""
        return dict.fromkeys(sent, self._sigma(sent))

    def _sigma(self, update: Mapping[str, Tensor]) -> float:
        size = torch.cat([g.detach().abs().double().flatten() for g in update.values()])
        size = size[size > 0.0]
        return self.share * float(np.percentile(size.cpu().numpy(), self.percentile)) if len(size) else 0.0

    def __str__(self) -> str:
        return f"{self.name}:{written(self.share)},{written(self.percentile)}"


@dataclass(frozen=True)
class LaplaceNoise(Defence):
    """Add independent Laplace noise to every entry (the Laplace mechanism, Dwork et al. 2006)."""

    name: ClassVar[str] = "laplace"
    form: ClassVar[str] = "laplace:SCALE with SCALE > 0, the mean magnitude of every entry's noise"
    effect: ClassVar[Effect] = "noise"
    scale: float

    @classmethod
    def of(cls, number: str) -> Self:
        """Return the defence with this scale."""
        return cls(positive(number))

    @property
    def told(self) -> str:
        """What it does."""
        return f"Laplace noise of scale {self.scale:.3g} is added to every entry"

    def apply(self, update: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Return the update with noise, by the inverse of its distribution function."""
        noisy = {}
        for name, g in update.items():
            # In float64, and never 0 or 1: the logarithm of what is left to them is not finite.
            u = torch.rand(g.shape, generator=generator, dtype=torch.float64).clamp(1e-300, 1.0 - 1e-16) - 0.5
            noisy[name] = g - (self.scale * u.sign() * torch.log1p(-2.0 * u.abs())).to(g)
        return noisy

    def simulate(self, ours: Mapping[str, Tensor], sent: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        """Return ours: the noise has mean zero."""
        return dict(ours)

    def deviation(self, sent: Mapping[str, Tensor]) -> dict[str, float]:
        """Return the square root of two times the scale."""
        return dict.fromkeys(sent, math.sqrt(2.0) * self.scale)

    def __str__(self) -> str:
        return f"{self.name}:{written(self.scale)}"
