"""The equation of a patch embedding: token gradients times patches is the weight's gradient."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from auditor.attack.closed_form.patch_grid import PatchGrid

# Singular values of the token gradients below float32's relative rounding (6e-8) of the largest are noise; ten
# times that leaves a margin for the sums inside one gradient.
_RANK_CUT = 6e-7
# Equations beyond the number of tokens from which the noise is measured; fewer would say little.
_SPARE = 8
# Neighbouring directions whose noise and signal are averaged, on either side.
_NEIGHBOURS = 3


@dataclass(frozen=True)
class Patches:
    """What the equation tells of the patches.

    Attributes
    ----------
    values
        Pixels less mid grey; directions of token space that the gradient does not determine are zero (minimum norm).
    rank
        How many directions of token space it determines: all of X where that is the number of tokens.
    off
        Share of dW that no patches explain, ||dW - P dW|| / ||dW||, P the projection on Delta's columns; None where
        there are too few equations to spare.
    error
        Expected mean squared error of a pixel from the noise in the gradients; what is undetermined is not in it.
    """

    values: Float[Tensor, "token pixel"]
    rank: int
    off: float | None
    error: float


def solve_patches(
    delta: Float[Tensor, "token feature"], dw: Float[Tensor, "feature pixel"], grid: PatchGrid
) -> Patches:
    """Solve Delta' X = dW for as much of X as Delta and the noise determine, in float64.

    dW is in pixel units less mid grey. Differences of rounded weights carry noise, and least squares multiplies it by
    1 / s along a direction of singular value s. The equations beyond the number of tokens hold nothing but noise,
    so they measure it, for every in-patch frequency; the mean square of a direction's patches less that noise is their
    signal; and every coefficient is shrunk by signal / (signal + noise): Wiener's filter with measured spectra, as
    empirical Bayes has it (Efron & Morris 1973). Exact gradients are left as they are.

    Measured against it and dropped: total least squares (truncated and not, up to 1 dB worse), correcting Delta by the
    bias's gradient, and the posterior mean under the cosine prior of clips, in place of zero in directions that are
    noise or undetermined: 1 dB better with 96 features for 392 tokens, 1 to 5 dB worse with 256 and behind local steps.
    Tokens that look alike have gradients alike, so what Delta does not tell apart hardly differs.
    """
    u, s, vh = torch.linalg.svd(delta.T, full_matrices=False)
    rank = int((s > _RANK_CUT * s[0]).sum())
    u, s, vh = u[:, :rank], s[:rank, None], vh[:rank]
    coefficients = grid.modes(dw)
    projected = u.T @ coefficients
    seen = projected / s
    spare = delta.shape[1] - delta.shape[0]
    if spare < _SPARE:
        rounding = _RANK_CUT * coefficients.square().mean().sqrt() / s
        return Patches(vh.T @ grid.patches(seen), rank, None, float(rounding.square().sum()) / len(delta))
    rest = coefficients - u @ projected
    measured = rest.square().sum(0) / (delta.shape[1] - rank) / s.square()
    bands = _Bands(grid, rank)
    noise = bands(measured)
    weight = (1.0 - noise / bands(seen.square()).clamp(min=1e-300)).clamp(0.0, 1.0)
    return Patches(
        values=vh.T @ grid.patches(weight * seen),
        rank=rank,
        off=float(rest.norm() / coefficients.norm().clamp(min=1e-300)),
        error=float((weight * noise).mean()) * rank / len(delta),
    )


class _Bands:
    """Averages over bands of in-patch frequency and neighbouring directions."""

    def __init__(self, grid: PatchGrid, rank: int) -> None:
        self._band = grid.band
        self._count = torch.bincount(self._band)
        self._rank = rank

    def __call__(self, values: Float[Tensor, "rank pixel"]) -> Float[Tensor, "rank pixel"]:
        sums = values.new_zeros(self._rank, len(self._count)).index_add_(1, self._band, values)
        window = 2 * _NEIGHBOURS + 1
        if self._rank >= window:
            sums = torch.nn.functional.avg_pool1d(sums.T[None], window, 1, _NEIGHBOURS, count_include_pad=False)[0].T
        return (sums / self._count)[:, self._band]
