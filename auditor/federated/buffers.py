"""BatchNorm running statistics after a step, and what whoever sees them knows about the batch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from auditor.records import BatchStatistics, NormInput


@dataclass(frozen=True, eq=False)
class Tracked:
    """One layer's running statistics before the step, and what the batch adds to them.

    `share` is the weight of the batch in the new value: 1 - (1 - rate)^calls where the layer ran several times; then
    `batch` is the average of its calls, weighted as they enter.
    """

    mean: str
    variance: str
    old: BatchStatistics
    batch: BatchStatistics
    share: float

    @property
    def after(self) -> dict[str, Tensor]:
        """The buffers after the step, by name."""
        return {
            name: (1.0 - self.share) * old + self.share * new
            for name, old, new in (
                (self.mean, self.old.mean, self.batch.mean),
                (self.variance, self.old.variance, self.batch.variance),
            )
        }

    def before(self, buffers: Mapping[str, Tensor]) -> BatchStatistics:
        """Return the batch's statistics from buffers that were sent: (new - (1 - share) old) / share.

        Exact up to rounding, about 1e-7 / share of the old value in float32.
        """

        def solved(name: str, old: Tensor) -> Tensor:
            return ((buffers[name].double() - (1.0 - self.share) * old.double()) / self.share).float()

        return BatchStatistics(mean=solved(self.mean, self.old.mean), variance=solved(self.variance, self.old.variance))


def tracked(seen: Sequence[NormInput]) -> dict[str, Tracked]:
    """Return the step of every BatchNorm layer, by its site, from all that it saw, in order."""
    calls: dict[str, list[NormInput]] = {}
    for call in seen:
        calls.setdefault(call.site, []).append(call)
    return {site: _tracked(of_site) for site, of_site in calls.items()}


def batch_statistics(x: Tensor, *, unbiased: bool) -> BatchStatistics:
    """Return mean and variance of every channel over clips and positions; (clip, channel, ...)."""
    rows = x.transpose(0, 1).flatten(1)
    return BatchStatistics(mean=rows.mean(1), variance=rows.var(1, correction=1 if unbiased else 0))


def _tracked(calls: Sequence[NormInput]) -> Tracked:
    first = calls[0]
    left = 1.0
    weights = []
    for call in reversed(calls):
        weights.append(left * call.rate)
        left *= 1.0 - call.rate
    weights.reverse()
    share = 1.0 - left
    each = [batch_statistics(call.input, unbiased=call.unbiased) for call in calls]
    if len(each) == 1:
        batch = each[0]
    else:
        batch = BatchStatistics(
            mean=torch.stack([w / share * b.mean for w, b in zip(weights, each, strict=True)]).sum(0),
            variance=torch.stack([w / share * b.variance for w, b in zip(weights, each, strict=True)]).sum(0),
        )
    return Tracked(
        mean=first.mean,
        variance=first.variance,
        old=BatchStatistics(mean=first.old_mean.detach(), variance=first.old_variance.detach()),
        batch=batch,
        share=share,
    )
