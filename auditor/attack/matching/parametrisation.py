"""Clips as cosine coefficients in units of their prior standard deviation, for a descent to move."""

import math
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from auditor.prior.modes import CosineTransform, mode_variance
from auditor.prior.spectrum import Spectrum
from auditor.records import Clips

# Variance of a pixel of the shipped clips about mid grey.
PIXEL_VARIANCE = 0.06
# How well a start knows the clip: coefficients that vary less than this are taken as unknown, not as noise.
_START_NOISE = 0.02
# Clips may leave [0, 1] by this much while they are searched; a hard box would stop whole modes.
_MARGIN = 0.2


@dataclass(frozen=True)
class Modes:
    """x = 0.5 + C(z sqrt(D)): C the space-time cosine transform, D the prior variance of natural clips by mode.

    Steps of one size in z are large where clips vary much and small where they vary little, so a descent spends itself
    on what a clip is likely to be made of (preconditioning by a prior covariance; the prior is that of the exposure).

    Attributes
    ----------
    coarse
        Modes that move at first, those with most variance; their number then grows geometrically (coarse to fine in
        space and time). 0 moves all from the start.
    full
        Share of the descent after which all modes move.
    spectrum
        Prior variance of the modes; that of the exposure analysis unless given.
    """

    coarse: int = 0
    full: float = 0.5
    spectrum: Spectrum | None = None

    def bind(self, like: Clips) -> "BoundModes":
        """Return the variables for this shape."""
        t, c, h, w = like.shape[1:]
        return BoundModes(self, (t, c, h, w), like)


class BoundModes:
    """`Modes` for one shape."""

    def __init__(self, modes: Modes, shape: tuple[int, int, int, int], like: Tensor) -> None:
        self._modes = modes
        spectrum = modes.spectrum
        variance = mode_variance(shape, PIXEL_VARIANCE) if spectrum is None else spectrum.variance(shape)
        self._deviation = variance.sqrt().to(like)
        self._rank = variance.flatten().argsort(descending=True, stable=True).argsort().view(shape).to(like.device)
        self._transform = CosineTransform.of(shape, like)

    def of(self, clips: Clips) -> Float[Tensor, "clip t c h w"]:
        """Return the posterior mean of z for clips that are known up to a little noise."""
        modes = self._transform.modes(clips - 0.5)
        return modes * self._deviation / (self._deviation.square() + _START_NOISE**2)

    def clips(self, variable: Float[Tensor, "clip t c h w"], progress: float) -> Clips:
        """Return the clips, from the modes that move at this share of the descent."""
        scale = self._deviation
        moving = self.moving(progress)
        if moving < scale.numel():
            scale = scale * (self._rank < moving)
        return (0.5 + self._transform.clips(variable * scale)).clamp(-_MARGIN, 1.0 + _MARGIN)

    def moving(self, progress: float) -> int:
        """Return how many modes move."""
        total, first = self._deviation.numel(), self._modes.coarse
        if not 0 < first < total or progress >= self._modes.full:
            return total
        return int(first * math.exp(math.log(total / first) * progress / self._modes.full))

    def confine(self, variable: Tensor) -> None:
        """Leave the variable alone: its scale is the prior's, and the loss sees a bounded clip."""
