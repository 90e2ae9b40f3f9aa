"""What an attacker assumes of a FedAvg client whose training it does not know."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from auditor.attack.fedavg.wrapped import Wrapped
from auditor.attack.labels.head import blind, find_head
from auditor.attack.matching.objective import Cosine
from auditor.records import Client, Clips, View

# Assumed where nothing is known: the shape of a short path matters little, its length is estimated.
EPOCHS = 4
RATE = 0.01
# Every so many calls of a search the step size is tried a fifth smaller and a quarter larger: a twentieth of the cost.
_EVERY = 25
_FACTORS = (1.0, 0.8, 1.25)
_COSINE = Cosine()


def without_training(view: View) -> View:
    """Return the view of an attacker who knows neither rate nor epochs nor local batches nor momentum.

    It assumes `EPOCHS` steps on the whole batch, with the step size that gives an update as long as the one seen.
    """
    knowledge = replace(view.knowledge, local_epochs=None, local_batch=None, learning_rate=None, momentum=None)
    unknowing = replace(view, knowledge=knowledge, update=replace(view.update, buffers={}))
    length = estimated_scale(unknowing)
    protocol = replace(
        view.client.protocol,
        local_epochs=EPOCHS,
        local_batch=0,
        momentum=0.0,
        send_buffers=False,
        learning_rate=RATE if length is None else length / EPOCHS,
    )
    return replace(unknowing, client=view.client.under(protocol))


def estimated_scale(view: View) -> float | None:
    """Estimate how many mean gradients add up to the update, from the head's bias; None without one.

    The bias gradient of a class that is absent is its mean probability, which the public model tells roughly: their
    ratio, summed over the classes whose entry is positive, is the scale (derived for this project, after LLG,
    Wainakh et al. 2021, arXiv 2105.09369). Cross-entropy only.
    """
    if view.knowledge.loss != "cross-entropy":
        return None
    head = find_head(view)
    if head.bias is None or not bool(torch.isfinite(head.bias).all()):
        return None
    usual = blind(view, head).probabilities
    absent = head.bias > 0
    scale = float(head.bias[absent].sum() / usual[absent].sum().clamp(min=1e-12)) if bool(absent.any()) else 0.0
    return scale if scale > 0.0 else None


class GuessedClient(Wrapped):
    """A client whose step size is not known: while a search goes on, it takes the one that explains the update best.

    The estimate of `estimated_scale` is too small where a client's probabilities changed much while it trained.
    """

    def __init__(self, client: Client, observed: Mapping[str, Tensor]) -> None:
        super().__init__(client)
        self._observed, self._calls = dict(observed), 0

    def __call__(self, clips: Clips, labels: Tensor, *, create_graph: bool = False) -> dict[str, Tensor]:
        """Return what the client sends at the step size so far; every 25th call with a graph tries two others."""
        if create_graph:
            self._calls += 1
            if self._calls % _EVERY == 0:
                self._try(clips.detach(), labels)
        return super().__call__(clips, labels, create_graph=create_graph)

    def _try(self, clips: Clips, labels: Tensor) -> None:
        protocol = self.protocol
        others = [
            self.client.under(replace(protocol, learning_rate=factor * protocol.learning_rate)) for factor in _FACTORS
        ]
        off = [float(_COSINE(client(clips, labels), self._observed)) for client in others]
        best = min((d for d in off if d == d), default=None)  # a rate at which training diverges gives NaN
        if best is not None:
            self.client = others[off.index(best)]
