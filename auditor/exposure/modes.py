"""The space-time cosine modes in which natural clips vary most."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

# Correlation of neighbouring pixels, successive frames and colour channels of natural clips; at these values the
# covariance of clips is nearly diagonal in the cosine transform (Clarke 1981 for AR(1); measured on the probes).
SPACE, TIME, COLOUR = 0.95, 0.98, 0.9


@dataclass(frozen=True)
class Modes:
    """The `k` leading modes of the prior.

    Attributes
    ----------
    basis
        Orthonormal, `(mode, frame, channel, height, width)`.
    variance
        Prior variance of each mode's coefficient, descending.
    outside
        Prior variance of all the modes left out.
    """

    basis: Float[Tensor, "mode frame channel height width"]
    variance: Float[Tensor, " mode"]
    outside: float

    @property
    def coverage(self) -> float:
        """Share of the prior variance that the modes hold, in [0, 1]."""
        held = float(self.variance.sum())
        return held / (held + self.outside)


def leading_modes(clip_shape: tuple[int, int, int, int], count: int, pixel_variance: float) -> Modes:
    """Return the `count` modes with most prior variance, of a prior with `pixel_variance` per pixel on average."""
    rho = (TIME, COLOUR, SPACE, SPACE)
    transforms = [_cosine(n) for n in clip_shape]
    axes = [_axis_variance(c, r) for c, r in zip(transforms, rho, strict=True)]
    total = torch.einsum("t,c,h,w->tchw", *axes)
    total = total * (pixel_variance * total.numel() / total.sum())
    order = total.flatten().argsort(descending=True, stable=True)[:count]
    where = torch.unravel_index(order, clip_shape)
    rows = [c[i] for c, i in zip(transforms, where, strict=True)]
    basis = torch.einsum("kt,kc,kh,kw->ktchw", *rows)
    held = total.flatten()[order]
    return Modes(basis=basis.float(), variance=held, outside=max(0.0, float(total.sum() - held.sum())))


def _cosine(n: int) -> Float[Tensor, "mode sample"]:
    """Orthonormal DCT-II matrix."""
    k, i = torch.arange(n, dtype=torch.float64)[:, None], torch.arange(n, dtype=torch.float64)[None]
    matrix = torch.cos(torch.pi * (i + 0.5) * k / n) * (2.0 / n) ** 0.5
    matrix[0] /= 2.0**0.5
    return matrix


def _axis_variance(cosine: Tensor, rho: float) -> Float[Tensor, " mode"]:
    """Diagonal of the AR(1) covariance in the cosine basis."""
    i = torch.arange(len(cosine), dtype=torch.float64)
    covariance = rho ** (i[:, None] - i[None]).abs()
    return torch.einsum("ki,ij,kj->k", cosine, covariance, cosine)
