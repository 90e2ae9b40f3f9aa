"""Space-time cosine modes of clips, and how much natural clips vary in each: a prior that several stages share."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

# Correlation of neighbouring pixels, successive frames and colour channels of natural clips; at these values the
# covariance of clips is nearly diagonal in the cosine transform (Clarke 1981 for AR(1); measured on the probes).
SPACE, TIME, COLOUR = 0.95, 0.98, 0.9


def cosine_matrix(n: int) -> Float[Tensor, "mode sample"]:
    """Return the orthonormal DCT-II matrix of `n` samples, in float64."""
    k, i = torch.arange(n, dtype=torch.float64)[:, None], torch.arange(n, dtype=torch.float64)[None]
    matrix = torch.cos(torch.pi * (i + 0.5) * k / n) * (2.0 / n) ** 0.5
    matrix[0] /= 2.0**0.5
    return matrix


def mode_variance(
    clip_shape: tuple[int, int, int, int], pixel_variance: float
) -> Float[Tensor, "frame channel height width"]:
    """Return the prior variance of every mode's coefficient, with `pixel_variance` per pixel on average, in float64."""
    rho = (TIME, COLOUR, SPACE, SPACE)
    axes = [_axis_variance(cosine_matrix(n), r) for n, r in zip(clip_shape, rho, strict=True)]
    total = torch.einsum("t,c,h,w->tchw", *axes)
    return total * (pixel_variance * total.numel() / total.sum())


@dataclass(frozen=True)
class CosineTransform:
    """The orthonormal space-time cosine transform of clips of one shape, on one device."""

    matrices: tuple[Float[Tensor, "mode sample"], ...]

    @classmethod
    def of(cls, clip_shape: tuple[int, int, int, int], like: Tensor) -> "CosineTransform":
        """Return the transform for clips of this shape, in the precision and on the device of `like`."""
        return cls(tuple(cosine_matrix(n).to(like) for n in clip_shape))

    def modes(self, clips: Float[Tensor, "clip frame channel height width"]) -> Float[Tensor, "clip t c h w"]:
        """Return the coefficients of clips."""
        t, c, h, w = self.matrices
        x = torch.matmul(clips, w.T)
        x = torch.matmul(h, x)
        return torch.einsum("nabhw,ta,cb->ntchw", x, t, c)

    def clips(self, modes: Float[Tensor, "clip t c h w"]) -> Float[Tensor, "clip frame channel height width"]:
        """Return the clips with these coefficients."""
        t, c, h, w = self.matrices
        x = torch.einsum("ntchw,ta,cb->nabhw", modes, t, c)
        return torch.matmul(h.T, torch.matmul(x, w))


def _axis_variance(cosine: Tensor, rho: float) -> Float[Tensor, " mode"]:
    """Diagonal of the AR(1) covariance in the cosine basis."""
    i = torch.arange(len(cosine), dtype=torch.float64)
    covariance = rho ** (i[:, None] - i[None]).abs()
    return torch.einsum("ki,ij,kj->k", cosine, covariance, cosine)
