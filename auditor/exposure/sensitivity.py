"""How much an update moves with a clip, as a linear map between clips whose prior variance is one everywhere."""

import math
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from auditor.exposure.jacobian import JacobianProducts
from auditor.prior.modes import CosineTransform
from auditor.prior.spectrum import Spectrum
from auditor.records import Clips


class ModePrior:
    """The `Spectrum` of natural clips in all space-time cosine modes, with `pixel_variance` a pixel on average."""

    def __init__(self, clips: Clips, pixel_variance: float) -> None:
        shape = tuple(clips.shape[1:])
        form = (shape[0], shape[1], shape[2], shape[3])
        law = Spectrum().variance(form)
        self.shape = clips.shape
        self.pixels = math.prod(shape)
        self.deviation = (law * (pixel_variance * law.numel() / law.sum())).sqrt().to(clips)
        self._transform = CosineTransform.of(form, clips)

    def signs(self) -> Float[Tensor, " n"]:
        """Return one clip each of random signs times deviations, as modes: s^T B s is tr B on average over the signs.

        Exactly where B is diagonal in the modes, as it is without an update (Hutchinson 1990).
        """
        drawn = torch.randint(2, tuple(self.shape), generator=torch.Generator().manual_seed(0)) * 2 - 1
        return (drawn.to(self.deviation) * self.deviation).flatten()

    def clips(self, whitened: Float[Tensor, " n"]) -> Clips:
        """Return the clips of modes that are told in deviations."""
        return self._transform.clips(whitened.view(self.shape) * self.deviation)

    def whitened(self, slopes: Clips) -> Float[Tensor, " n"]:
        """Return the transpose of `clips`, applied to slopes."""
        return (self._transform.modes(slopes) * self.deviation).flatten()


class Sensitivity:
    """v -> D^1/2 J^T W J D^1/2 v, in modes in units of their prior's deviation D^1/2.

    J is the Jacobian of some parameters' gradients, and W is one over the variance of the noise on their entries, by
    parameter.
    """

    def __init__(self, products: JacobianProducts, prior: ModePrior, weights: Mapping[str, float]) -> None:
        self._products = products
        self._prior = prior
        self._weights = weights

    def __call__(self, whitened: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Return the product: one with J, and one with its transpose."""
        seen = self._products.along(self._prior.clips(whitened), self._weights)
        return self._prior.whitened(self._products.across({n: g * self._weights[n] for n, g in seen.items()}))
