"""The local training of a FedAvg client: SGD from the public weights, one step after another."""

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from auditor.records import Clips, FederatedProtocol

# The gradient of the mean loss at given weights, for a batch of clips.
Gradient = Callable[[Mapping[str, Tensor], Clips, Tensor], Mapping[str, Tensor]]


def batches(clips: int, protocol: FederatedProtocol, seed: int | None) -> Iterator[Tensor | None]:
    """Yield the indices of every local batch, epoch by epoch; None stands for all clips.

    Each epoch goes through the clips in an order of its own, drawn from `seed`; without a seed in the order given,
    which is as good as any other to an attacker.
    """
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    size = protocol.local_batch or clips
    for _ in range(protocol.local_epochs):
        if size >= clips:
            yield None
            continue
        order = torch.arange(clips) if generator is None else torch.randperm(clips, generator=generator)
        yield from torch.split(order, size)


def local_training(
    gradient: Gradient,
    start: Mapping[str, Tensor],
    clips: Clips,
    labels: Tensor,
    protocol: FederatedProtocol,
    seed: int | None,
    *,
    create_graph: bool,
) -> dict[str, Tensor]:
    """Return w0 - wT after local SGD (McMahan et al. 2017, arXiv 1602.05629, ClientUpdate).

    v <- momentum v + gradient, w <- w - rate v, as `torch.optim.SGD` has it with its defaults. Everything is rounded as
    the client rounds it: what travels is the difference of float32 weights. With `create_graph` the result is
    differentiable in `clips` and `labels` through all steps; memory then grows with their number.
    """
    weights = dict(start)
    velocity: dict[str, Tensor] = {}
    for chosen in batches(len(clips), protocol, seed):
        if not create_graph:
            weights = {name: w.detach().requires_grad_(True) for name, w in weights.items()}
        if chosen is None:
            slopes = gradient(weights, clips, labels)
        else:
            chosen = chosen.to(clips.device)
            slopes = gradient(weights, clips[chosen], labels[chosen])
        for name, slope in slopes.items():
            before = velocity.get(name)
            velocity[name] = slope if before is None else protocol.momentum * before + slope
            weights[name] = torch.add(weights[name], velocity[name], alpha=-protocol.learning_rate)
    moved = {name: w - weights[name] for name, w in start.items()}
    return moved if create_graph else {name: delta.detach() for name, delta in moved.items()}
