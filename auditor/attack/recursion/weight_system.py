"""The weight gradient of a convolution or matrix product, as linear equations in the layer's input."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from auditor.attack.recursion.subnetwork import TRANSPOSED, Operation

# A float32 gradient carries about this relative error, from the rounding of its sums.
ROUNDING = 3e-7
# Singular values below this share of the largest one are rounding.
_RANK_CUT = 1e-6
# An input that is known to this share of its size counts as exact.
_EXACT = 1e-2
# Largest system solved by a singular value decomposition: entries, and multiplications (seconds on one core).
_ENTRIES, _WORK = 4e7, 2e10


@dataclass(frozen=True)
class WeightSystem:
    """rows @ a = right for the input a of a layer, one column for each of its channels.

    `projections` are orthonormal, `(rank, position)`: projections @ a = known, where row k is known up to a noise of
    `noise[k]`. `residual` is what of the gradient no input explains, relative to its norm.
    """

    operation: Operation
    projections: Float[Tensor, "rank position"]
    known: Float[Tensor, "rank channel"]
    noise: Float[Tensor, " rank"]
    residual: float

    @property
    def exact(self) -> bool:
        """True when every position of the input is determined, and the noise is small."""
        rank, positions = self.projections.shape
        return rank == positions and not self.noisy

    @property
    def noisy(self) -> bool:
        """True when the noise is not small beside what is known."""
        return float(self.noise.square().mean().sqrt()) >= _EXACT * float(self.known.square().mean().sqrt())

    def solution(self) -> Tensor:
        """Return the input of least norm that fulfils the equations, shaped as the operation's input."""
        return from_columns(self.projections.T @ self.known, self.operation)


def columns(value: Tensor, operation: Operation) -> Float[Tensor, "position channel"]:
    """Return a layer's input or output with one row for each position."""
    if operation.convolution is None:
        return value.reshape(-1, value.shape[-1])
    return value.movedim(1, -1).reshape(-1, value.shape[1])


def from_columns(value: Tensor, operation: Operation, like: Tensor | None = None) -> Tensor:
    """Undo `columns`: return the value shaped as `like`, the operation's input unless given."""
    like = operation.input if like is None else like
    if operation.convolution is None:
        return value.reshape(like.shape)
    moved = like.movedim(1, -1)
    return value.reshape(moved.shape).movedim(-1, 1)


def obstacle(operation: Operation) -> str | None:
    """Say why the operation's weight gradient gives no such equations, or None."""
    settings = operation.convolution
    if settings is None:
        return None
    if settings["groups"] != 1:
        return "a grouped convolution"
    if isinstance(settings["padding"], str):
        return "a convolution padded more on one side than on the other"
    return None


def weight_system(
    operation: Operation, cotangent: Tensor, gradient: Tensor, rounding: float = ROUNDING
) -> WeightSystem | None:
    """Return the equations, decomposed; None where they are too many to decompose or all zero.

    Parameters
    ----------
    cotangent
        Gradient of the loss at the operation's output.
    gradient
        Of its weight, as sent.
    rounding
        Error of the gradient relative to its root mean square.
    """
    if obstacle(operation) is not None:
        return None
    delta = cotangent.double()
    rows = equation_rows(operation, delta)
    if rows is None:
        return None
    right = right_side(operation, gradient.double())
    n, m = rows.shape
    if min(n, m) ** 2 * max(n, m) > _WORK:
        return None
    scale = float(right.square().mean().sqrt())
    u, s, v = _svd(rows)
    if scale == 0.0 or float(s[0]) == 0.0:
        return None
    kept = s > _RANK_CUT * s[0]
    s, u, v = s[kept], u[:, kept], v[kept]
    explained = u.T @ right
    missed = float((right - u @ explained).norm() / right.norm())
    return WeightSystem(operation, v, explained / s[:, None], rounding * scale / s, missed)


def _svd(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the thin singular value decomposition; of a long matrix by way of its triangular factor, in a third."""
    n, m = matrix.shape
    if max(n, m) < 2 * min(n, m):
        u, s, v = torch.linalg.svd(matrix, full_matrices=False)
        return u, s, v
    q, r = torch.linalg.qr(matrix if n > m else matrix.T)
    u, s, v = torch.linalg.svd(r, full_matrices=False)
    return (q @ u, s, v) if n > m else (v.T, s, (q @ u).T)


def equation_rows(
    operation: Operation, delta: Tensor, most: float = _ENTRIES
) -> Float[Tensor, "equation position"] | None:
    """Return the matrix of the equations, output channel by output channel and tap by tap.

    None where it has more entries than `most`.
    """
    settings = operation.convolution
    if settings is None:
        return delta.reshape(-1, delta.shape[-1]).T.contiguous()
    kernel = tuple(settings["weight"].shape[2:])
    taps, n = int(torch.tensor(kernel).prod()), settings["axes"]
    given, made = operation.input.shape, delta.shape
    if taps * made[1] * operation.input.numel() / given[1] > most:
        return None
    extra = tuple(
        given[2 + i]
        - ((made[2 + i] - 1) * settings["stride"][i] - 2 * settings["padding"][i]
           + settings["dilation"][i] * (kernel[i] - 1) + 1)
        for i in range(n)
    )  # fmt: skip
    if any(not 0 <= e < max(settings["stride"][i], settings["dilation"][i]) for i, e in enumerate(extra)):
        return None
    pick = torch.eye(taps, dtype=delta.dtype, device=delta.device).view(1, taps, *kernel)
    spread = TRANSPOSED[n](
        delta.reshape(-1, 1, *made[2:]), pick, None, settings["stride"], settings["padding"], extra, 1,
        settings["dilation"],
    )  # fmt: skip
    spread = spread.view(made[0], made[1], taps, -1).permute(1, 2, 0, 3)
    return spread.reshape(made[1] * taps, -1).contiguous()


def right_side(operation: Operation, gradient: Tensor) -> Float[Tensor, "equation channel"]:
    """Return the weight's gradient with a row for each equation and a column for each input channel."""
    if operation.convolution is None:
        return operation.oriented(gradient)
    return gradient.movedim(1, -1).reshape(-1, gradient.shape[1])
