"""How far a candidate's BatchNorm statistics are from the running ones of the public model."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from auditor.records import NormInput

# BatchNorm's own epsilon: a channel with less variance than this is dead, and its scale means nothing.
_DEAD = 1e-5


def running_distance(seen: Sequence[NormInput]) -> Float[Tensor, ""]:
    """Return the mean over BatchNorm calls and channels of (mu - m)^2 / v + (s / sqrt(v) - 1)^2; 0 without calls.

    mu and s are mean and standard deviation of what the layer saw, per channel over clips and positions in one, two or
    three dimensions; m and v its running statistics. DeepInversion (Yin et al. 2020, arXiv 1912.08795, eq. 4), relative
    to the channel's own scale. It knows the training set only, so it says nothing with fresh weights.
    """
    terms = []
    for call in seen:
        rows = call.input.transpose(0, 1).flatten(1)
        variance = call.old_variance.detach().clamp_min(_DEAD)
        mean = (rows.mean(dim=1) - call.old_mean.detach()).square() / variance
        # A constant channel has a deviation of zero, where the root has no derivative.
        deviation = (rows.var(dim=1, correction=0) / variance + 1e-12).sqrt()
        terms.append((mean + (deviation - 1.0).square()).mean())
    return torch.stack(terms).mean() if terms else torch.zeros(())
