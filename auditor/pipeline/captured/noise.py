"""Whether what two updates differ by is noise: the same everywhere, and spread as noise is."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from auditor.pipeline.captured.comparison import norm

# Entries that a distribution is read off; its distance is then known to 1 / sqrt(n), half a percent.
_MOST = 40_000
# Fewer entries say nothing of their deviation.
_FEW = 8
# How many of its own standard errors a variance may stand above what chance makes it.
_ERRORS = 4.0


def deviation(rest: Mapping[str, Tensor]) -> float:
    """Return the root mean square of the entries."""
    count = sum(value.numel() for value in rest.values())
    return norm(rest) / math.sqrt(count) if count else 0.0


def unlike_noise(rest: Mapping[str, Tensor]) -> float:
    """Return how far entries are from noise of one deviation: about 0 for Gaussian or Laplace noise, to 1 and more.

    The larger of two numbers: how much the sizes of parameters, rows and columns differ beyond what chance does, and
    the Kolmogorov-Smirnov distance of all entries from the nearer of the two distributions. A difference of gradients
    has rows and columns that are large together, whatever the distribution of its entries.
    """
    sigma = deviation(rest)
    if sigma == 0.0:
        return 1.0
    entries = torch.cat([value.detach().flatten().double().cpu() for value in rest.values()]) / sigma
    size = float(entries.abs().mean())
    uneven = sum(value.numel() * _uneven(value.double().abs() / (sigma * size)) for value in rest.values())
    chosen = torch.randperm(len(entries), generator=torch.Generator().manual_seed(0))[:_MOST]
    ordered = entries[chosen].sort().values
    shape = min(_distance(ordered, _gaussian(ordered)), _distance(ordered, _laplace(ordered)))
    return max(math.sqrt(uneven / len(entries)), shape)


def _uneven(size: Tensor) -> float:
    """Return the variance of mean sizes over a parameter, its rows and its columns, less what chance makes of it.

    The mean size of n entries of Laplace noise varies by 1 / n of its square, that of Gaussian noise by 0.57 / n.
    """
    if size.numel() < _FEW:
        return 0.0
    found = [(float(size.mean()) - 1.0) ** 2 - 1.0 / size.numel()]
    if size.ndim > 1:
        matrix = size.flatten(1)
        for means, count in ((matrix.mean(1), matrix.shape[1]), (matrix.mean(0), matrix.shape[0])):
            if count >= _FEW:
                chance = (1.0 + _ERRORS / math.sqrt(len(means))) / count
                found.append(float((means - 1.0).square().mean()) - chance)
    return max(0.0, *found)


def _distance(ordered: Tensor, expected: Tensor) -> float:
    """Return the largest gap between the entries' distribution and another."""
    steps = torch.arange(len(ordered) + 1, dtype=torch.float64) / len(ordered)
    return float(torch.maximum((expected - steps[:-1]).abs(), (steps[1:] - expected).abs()).max())


def _gaussian(x: Tensor) -> Tensor:
    return torch.special.ndtr(x)


def _laplace(x: Tensor) -> Tensor:
    """Of variance 1."""
    tail = 0.5 * torch.exp(-math.sqrt(2.0) * x.abs())
    return torch.where(x < 0.0, tail, 1.0 - tail)
