"""The input of a head whose bias's gradient was not sent: a scale and a sign, which the loss itself fixes."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

# A gradient of rank one, and how far p - e_y may be from what its direction says: both in float32.
_RANK_ONE, _AGREES = 1e-4, 1e-3
# Sizes that are tried, from least to most, and bisections between two of them.
_LEAST, _MOST, _TRIED, _HALVINGS = 1e-6, 1e6, 600, 100


def error_without_bias(gradient: Tensor, probabilities: Callable[[Tensor], Tensor]) -> Tensor | None:
    """Return p - e_y, (class), of a cross-entropy on logits h(x), from dW = (p - e_y) x' alone, in float64.

    Of rank one it gives u v' with x = s v and p - e_y = u / s for an s that is not known, of either sign. As p is the
    softmax of h(s v), the vector equation softmax(h(s v)) - e_y = u / s holds at the true s, and for three classes and
    more nowhere else but by chance (derived here). Where it holds for several s, one that is positive for features
    that are nowhere negative, as behind a rectifier, is taken, and none where that leaves a choice.

    Parameters
    ----------
    gradient
        Of the weight, (class, feature), of one clip.
    probabilities
        Of features, (feature), the softmax of the logits, (class).
    """
    _, sizes, v = torch.linalg.svd(gradient, full_matrices=False)
    if len(sizes) < 2 or float(sizes[1]) > _RANK_ONE * float(sizes[0]) or float(sizes[0]) == 0.0:
        return None
    upwards = v[0] if float(v[0].sum()) > 0.0 else -v[0]
    for direction in (upwards, -upwards):
        error = gradient @ direction
        found = list(_consistent(direction, error, probabilities))
        if found:
            return error / found[0] if len(found) == 1 else None
    return None


def _consistent(direction: Tensor, error: Tensor, probabilities: Callable[[Tensor], Tensor]) -> Iterator[float]:
    """Yield the sizes at which all of the vector equation holds."""
    label, length = int(error.argmin()), float(error.norm())

    def missing(size: float) -> Tensor:
        p = probabilities(size * direction).clone()
        p[label] -= 1.0
        return p

    def off(size: float) -> float:
        return float(missing(size).norm()) - length / size

    grid = [float(s) for s in torch.logspace(0, 1, _TRIED, base=_MOST / _LEAST, dtype=torch.float64) * _LEAST]
    values = [off(size) for size in grid]
    for low, high, left, right in zip(grid, grid[1:], values, values[1:], strict=False):
        if left * right > 0.0:
            continue
        for _ in range(_HALVINGS):
            middle = (low * high) ** 0.5
            low, high = (middle, high) if (off(middle) < 0.0) == (left < 0.0) else (low, middle)
        if float((missing(low) - error / low).norm()) < _AGREES * length / low:
            yield low
