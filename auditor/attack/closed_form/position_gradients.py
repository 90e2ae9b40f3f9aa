"""Token gradients, as learned position embeddings of a transformer tell them."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

# The rows of a position embedding's gradient add up to the gradient of the bias before it, up to rounding; that of
# weights which were rounded after every local step is largest.
_SUM_AGREES = 1e-2


@dataclass(frozen=True)
class Positions:
    """Sums of token gradients: one a token, or fewer where tokens share a position.

    Attributes
    ----------
    rows
        The sums.
    shares
        For each kind of position the row that a token's gradient went into.
    total
        The sum of all token gradients.
    """

    name: str
    rows: Float[Tensor, "row feature"]
    shares: tuple[Int[Tensor, " token"], ...]
    total: Float[Tensor, " feature"]

    def spread(self, values: Float[Tensor, "row pixel"]) -> Float[Tensor, "token pixel"]:
        """Give each token the values of its rows, added up: the transpose of summing its gradient into them."""
        return sum((values[share] for share in self.shares[1:]), values[self.shares[0]])


def could_be_positions(gradient: Tensor) -> bool:
    """Tokens by features (or features by grid), with no more than a leading 1 before them."""
    core = [d for d in gradient.shape if d > 1]
    return len(core) >= 2 and gradient.ndim >= 2 and (gradient.shape[0] == 1 or gradient.ndim == 2)


def position_gradients(
    sent: Mapping[str, Tensor], tokens: int, features: int, bias: Float[Tensor, " feature"] | None
) -> Iterator[Positions]:
    """Yield what gradients tell of tokens laid out frame by frame, most telling first, class tokens' rows dropped.

    A position for every token; one for every place and one for every frame; one for every place alone.
    """
    candidates = {
        name: list(_as_rows(gradient.double(), features))
        for name, gradient in sent.items()
        if could_be_positions(gradient)
    }
    whole = torch.arange(tokens)
    for name, found in candidates.items():
        for rows in _without_class(found, tokens, bias):
            yield Positions(name, rows, (whole,), rows.sum(0))
    for places in (n for n in range(tokens - 1, 1, -1) if tokens % n == 0):
        place, frame = whole % places, whole // places
        over_places = [(n, r) for n, found in candidates.items() for r in _without_class(found, places, bias)]
        over_frames = [(n, r) for n, found in candidates.items() for r in _without_class(found, tokens // places, bias)]
        for (name, rows), (other, times) in itertools.product(over_places, over_frames):
            if name != other:
                yield Positions(f"{name} and {other}", torch.cat([rows, times]), (place, places + frame), rows.sum(0))
        for name, rows in over_places:
            yield Positions(name, rows, (place,), rows.sum(0))


def _without_class(found: list[Tensor], tokens: int, bias: Tensor | None) -> Iterator[Tensor]:
    """Yield rows for so many tokens whose sum agrees with the bias, without a class token at either end."""
    for rows in found:
        spare = len(rows) - tokens
        if spare not in (0, 1):
            continue
        for kept in (rows,) if spare == 0 else (rows[1:], rows[:-1]):
            if bias is None or float((kept.sum(0) - bias).norm()) <= _SUM_AGREES * float(bias.norm()):
                yield kept


def _as_rows(gradient: Tensor, features: int) -> Iterator[Tensor]:
    """Yield the gradient as (tokens, features), features last or first."""
    core = gradient[0] if gradient.shape[0] == 1 and gradient.ndim > 2 else gradient
    if core.shape[-1] == features:
        yield core.reshape(-1, features)
    if core.shape[0] == features and core.ndim >= 2:
        yield core.reshape(features, -1).T
