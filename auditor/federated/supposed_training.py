"""A client's training as it may really have gone: what no protocol of an audit says, for comparison with an update."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import torch
from torch import Tensor

from auditor.federated.client import LocalClient
from auditor.records import BatchNormMode, Clips, FederatedProtocol, record


@record
class SupposedTraining:
    """How a client may have trained on a batch that it takes whole.

    Attributes
    ----------
    local
        Whether weights after local training are sent; else one gradient, and `steps`, `rate` and `momentum` idle.
    decay
        L2 penalty as `torch.optim.SGD` adds it to the gradient (`weight_decay`).
    autocast
        Type that forward passes compute in, as torch.autocast has it; None for float32.
    """

    local: bool
    steps: int
    rate: float
    momentum: float
    bn: BatchNormMode
    decay: float = 0.0
    autocast: torch.dtype | None = None

    @classmethod
    def of(cls, protocol: FederatedProtocol) -> "SupposedTraining":
        """Return the training that a protocol describes, for batches that are taken whole."""
        return cls(
            local=protocol.algorithm == "FedAvg",
            steps=protocol.steps,
            rate=protocol.learning_rate,
            momentum=protocol.momentum,
            bn=protocol.bn,
        )


def supposed_update(
    client: LocalClient, clips: Clips, targets: Tensor, training: SupposedTraining
) -> dict[str, Tensor]:
    """Return the update of a client that trains so, by parameter: a gradient, or the weights before less those after.

    v <- momentum v + gradient + decay w, w <- w - rate v (`torch.optim.SGD`). Written apart from `local_training`, so
    that each is a witness of the other.
    """
    one = client.under(replace(client.protocol, algorithm="FedSGD", bn=training.bn, defence=()))
    parameters = dict(client.model.named_parameters())
    start = {name: parameters[name].detach() for name in client.names}
    if not training.local:
        return _slope(one, clips, targets, start, training)
    weights, velocity = start, {name: torch.zeros_like(w) for name, w in start.items()}
    for _ in range(training.steps):
        slope = _slope(one.at(weights), clips, targets, weights, training)
        velocity = {name: training.momentum * v + slope[name] for name, v in velocity.items()}
        # As torch.optim.SGD rounds it.
        weights = {name: torch.add(w, velocity[name], alpha=-training.rate) for name, w in weights.items()}
    return {name: w - weights[name] for name, w in start.items()}


def _slope(
    client: LocalClient, clips: Clips, targets: Tensor, weights: Mapping[str, Tensor], training: SupposedTraining
) -> dict[str, Tensor]:
    lower: AbstractContextManager[object] = nullcontext()
    if training.autocast is not None:
        lower = torch.autocast(clips.device.type, dtype=training.autocast)
    with lower:
        found = client(clips, targets)
    return {name: g.detach().float().add(weights[name], alpha=training.decay) for name, g in found.items()}
