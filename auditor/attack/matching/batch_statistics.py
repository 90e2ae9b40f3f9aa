"""How far the BatchNorm statistics of a candidate are from those that a client's buffers gave away."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from auditor.records import BatchStatistics

# BatchNorm's own epsilon: a channel with less variance than this is dead, and its scale means nothing.
_DEAD = 1e-5


def statistics_distance(
    ours: Mapping[str, BatchStatistics], theirs: Mapping[str, BatchStatistics]
) -> Float[Tensor, ""]:
    """Return the mean over layers and channels of (mu - mu*)^2 / var* + (var / var* - 1)^2.

    The BatchNorm term of DeepInversion (Yin et al. 2020, arXiv 1912.08795) and GradInversion (Yin et al. 2021, arXiv
    2104.07586), which compare with running statistics of the training set; here with the exact ones of this batch,
    and relative to the channel's own scale.
    """
    terms = []
    for site, wanted in theirs.items():
        scale = wanted.variance.clamp_min(_DEAD)
        mean = (ours[site].mean - wanted.mean).square() / scale
        variance = ((ours[site].variance - wanted.variance) / scale).square()
        terms.append((mean + variance).mean())
    return torch.stack(terms).mean()
