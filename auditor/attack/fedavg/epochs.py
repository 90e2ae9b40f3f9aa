"""Clips of every epoch by themselves: for an attacker who does not know the order within epochs."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from auditor.attack.fedavg.wrapped import Wrapped
from auditor.records import Client, Clips, Knowledge, View


class EpochsApart(Wrapped):
    """A client that is given every epoch's clips in their order, one epoch after another."""

    def __init__(self, client: Client) -> None:
        p = client.protocol
        # Where local batches fill epochs exactly, E epochs over B clips are one over E * B clips in that order.
        super().__init__(client.under(replace(p, local_epochs=1, batch=p.local_epochs * p.batch)))


def can_part(view: View) -> bool:
    """Tell whether the order within epochs matters, and local batches fill epochs exactly."""
    p = view.client.protocol
    return p.local_epochs > 1 and p.local_batches > 1 and p.batch % p.local_batch == 0


def parted(view: View) -> View:
    """Return the view in which every epoch has clips of its own, epoch by epoch."""
    epochs, batch = view.client.protocol.local_epochs, view.update.batch
    labels = view.knowledge.labels
    return replace(
        view,
        client=EpochsApart(view.client),
        update=replace(view.update, batch=epochs * batch, buffers={}),
        knowledge=replace(
            view.knowledge, batch=epochs * batch, labels=None if labels is None else labels * epochs, local_epochs=1
        ),
    )


@dataclass(frozen=True)
class EpochAgreement:
    """Epochs show the same clips in another order: their means, and mean squares, agree pixel by pixel.

    An order-invariant epoch prior (Dimitrov et al. 2022, arXiv 2206.12395, section 4.2).
    """

    epochs: int
    weight: float

    def __call__(self, clips: Clips, knowledge: Knowledge) -> Float[Tensor, ""]:
        """Return the mean absolute difference of each epoch's moments from those of all."""
        each = clips.reshape(self.epochs, -1, *clips.shape[1:])
        moments = torch.stack([each.mean(1), each.square().mean(1)])
        return self.weight * (moments - moments.mean(1, keepdim=True)).abs().mean()


def merged(clips: Clips, epochs: int) -> Clips:
    """Pair the clips of later epochs with those of the first, by squared difference, and average."""
    each = clips.reshape(epochs, -1, *clips.shape[1:])
    total = each[0].clone()
    for later in each[1:]:
        cost = (each[0][:, None] - later[None]).square().flatten(2).mean(2)
        _, order = linear_sum_assignment(cost.cpu().numpy())
        total += later[torch.as_tensor(order, device=later.device)]
    return total / epochs
