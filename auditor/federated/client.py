"""A client: what it computes on its batch of clips, by one gradient or by local training, and what of it travels."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from auditor.federated.buffers import Tracked, tracked
from auditor.federated.defence import defend, parse
from auditor.federated.local_steps import batches, local_training
from auditor.federated.loss import CrossEntropy, Loss, check_twice, targets_of
from auditor.records import (
    BatchStatistics,
    Clips,
    FederatedProtocol,
    Label,
    PublicModel,
    Update,
    at_client,
    random_state_kept,
    split_at_sum,
)


class LocalClient:
    """Compute what a client sends for a batch of clips (FedSGD or FedAvg, McMahan et al. 2017, arXiv 1602.05629).

    The code is public: the auditor calls it on probe clips, the attacker on clips of its own choice.

    Parameters
    ----------
    model
        The public model.
    protocol
        FedSGD or FedAvg with its local training, BatchNorm and dropout mode, and the names that are sent.
    loss
        What is minimised; cross-entropy on logits unless given.
    classes
        How many outputs the model has, for multi-label targets.
    seed
        Seed of what only this client knows: its dropout masks, the order of its clips in local training, and what its
        defences draw. Without one dropout is off, and clips come in the order given.
    weights
        Other public weights than the model's, by name.
    """

    def __init__(
        self,
        model: PublicModel,
        protocol: FederatedProtocol,
        loss: Loss | None = None,
        classes: int = 0,
        seed: int | None = None,
        weights: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.model = model
        self.protocol = protocol
        self.loss = CrossEntropy() if loss is None else loss
        self.classes = classes
        self.seed = seed
        self.names = protocol.sent
        self.defences = at_client([parse(spec) for spec in protocol.defence])
        self._each, self._together = split_at_sum(self.defences)
        parameters = dict(model.named_parameters())
        self._moved = {
            name: w if w.requires_grad else w.detach().requires_grad_(True) for name, w in (weights or {}).items()
        }
        # What is trained and not sent matters to local training alone.
        trained = (*self.names, *(protocol.kept_back if protocol.algorithm == "FedAvg" else ()))
        self._start = {name: self._moved.get(name, parameters[name]) for name in trained}

    @property
    def configuration(self) -> tuple[object, ...]:
        """What decides what this client computes, besides the model, as records, tensors and plain values."""
        return self.protocol, self.loss.name, self.loss.kind, self.classes, self.seed, self._moved

    def under(self, protocol: FederatedProtocol) -> "LocalClient":
        """Return this client under another protocol."""
        return LocalClient(self.model, protocol, self.loss, self.classes, self.seed, self._moved)

    def with_seed(self, seed: int) -> "LocalClient":
        """Return the client with dropout masks and an order of clips of its own."""
        return LocalClient(self.model, self.protocol, self.loss, self.classes, seed, self._moved)

    def at(self, weights: Mapping[str, Tensor]) -> "LocalClient":
        """Return this client with other public weights; those that need a gradient stay in the graph."""
        return LocalClient(self.model, self.protocol, self.loss, self.classes, self.seed, {**self._moved, **weights})

    def targets(self, labels: Sequence[Label]) -> Tensor:
        """Return the labels of a batch in the form that the loss reads, where the model is."""
        return targets_of(labels, self.loss.kind, self.classes).to(next(iter(self.model.named_parameters()))[1].device)

    def __call__(self, clips: Clips, labels: Tensor, *, create_graph: bool = False) -> dict[str, Tensor]:
        """Return the gradient of the mean loss, by parameter name; for FedAvg w0 - wT, see `local_steps`.

        `labels` are as `targets` makes them; for cross-entropy class indices `(clip,)` or probabilities
        `(clip, class)`. A parameter that the loss does not depend on has gradient zero, as a client that sends the
        whole state would send it.
        """
        return self._step(clips, labels, create_graph=create_graph, watch=False)[0]

    def simulate(
        self, clips: Clips, labels: Tensor, *, create_graph: bool = False
    ) -> tuple[dict[str, Tensor], dict[str, BatchStatistics]]:
        """Return the update and, where buffers are sent, the statistics of this batch by BatchNorm layer.

        Over several local steps statistics are averaged as they enter the buffers, late steps most.
        """
        gradients, steps = self._step(clips, labels, create_graph=create_graph, watch=self.protocol.send_buffers)
        return gradients, {site: step.batch for site, step in steps.items()}

    def update(self, clips: Clips, labels: Tensor) -> Update:
        """Return the update that travels for these clips: detached, in float32, under the protocol's defences."""
        generator = torch.Generator().manual_seed(self.seed or 0)
        gradients, steps = self._step(
            clips, labels, create_graph=False, watch=self.protocol.send_buffers, generator=generator
        )
        return Update(
            gradients=defend(self._together, {name: g.detach() for name, g in gradients.items()}, generator),
            batch=len(clips),
            algorithm=self.protocol.algorithm,
            buffers={name: value.detach() for step in steps.values() for name, value in step.after.items()},
        )

    def batch_statistics(self, buffers: Mapping[str, Tensor], clips: Clips) -> dict[str, BatchStatistics]:
        """Return the statistics of the batch behind buffers that were sent; `clips` only give the shape.

        The old values, the momentum, the order of layers and the number of local steps are public; so what the batch
        added is too.
        """
        self.model.batchnorm(self.protocol.bn)
        local = batches(len(clips), self.protocol, None) if self.protocol.algorithm == "FedAvg" else (None,)
        with torch.no_grad(), self.model.statistics() as seen:
            for chosen in local:
                self.model(clips if chosen is None else clips[chosen.to(clips.device)])
        return {site: step.before(buffers) for site, step in tracked(seen).items()}

    def check(self, clips: Clips, labels: Tensor) -> None:
        """Raise UsageError, in one line, unless the loss can be differentiated twice on these clips."""
        self.model.batchnorm(self.protocol.bn)
        clips = clips.clone().requires_grad_(True)
        check_twice(self.loss, self._outputs(clips), labels, clips)

    def _outputs(self, clips: Clips) -> Any:
        return self.model.outputs(clips) if self.loss.raw else self.model(clips)

    def _step(
        self,
        clips: Clips,
        labels: Tensor,
        *,
        create_graph: bool,
        watch: bool,
        generator: torch.Generator | None = None,
    ) -> tuple[dict[str, Tensor], dict[str, Tracked]]:
        """Return the update of one client, or the average of several, each under the defences of its own.

        With a `generator` they draw from it; without, their attacker's form is taken.
        """
        self.model.batchnorm(self.protocol.bn)
        with torch.enable_grad(), self._dropping(clips), self.model.statistics() if watch else nullcontext([]) as seen:
            made = [
                self._sent(self._trained(x, y, k, create_graph=create_graph), generator)
                for k, (x, y) in enumerate(self._clients(clips, labels))
            ]
        if len(made) == 1:
            return made[0], tracked(seen)
        return {name: torch.stack([one[name] for one in made]).mean(0) for name in made[0]}, tracked(seen)

    def _clients(self, clips: Clips, labels: Tensor) -> list[tuple[Clips, Tensor]]:
        """Return clips and labels of every client, in order."""
        if self.protocol.clients == 1:
            return [(clips, labels)]
        return list(zip(clips.chunk(self.protocol.clients), labels.chunk(self.protocol.clients), strict=True))

    def _sent(self, update: dict[str, Tensor], generator: torch.Generator | None) -> dict[str, Tensor]:
        """Return what of one client's update is sent: without what it keeps back, and as it leaves its defences."""
        update = {name: update[name] for name in self.names}
        if generator is not None:
            return dict(defend(self._each, {name: g.detach() for name, g in update.items()}, generator))
        for defence in self._each:
            update = defence.simulate(update, None)
        return update

    def _trained(self, clips: Clips, labels: Tensor, client: int, *, create_graph: bool) -> dict[str, Tensor]:
        """Return one client's update before its defences."""
        if self.protocol.algorithm == "FedSGD":
            return self._gradient(self._start, clips, labels, self._moved, create_graph)
        return local_training(
            lambda w, x, y: self._gradient(w, x, y, {**self._moved, **w}, create_graph),
            self._start,
            clips,
            labels,
            self.protocol,
            None if self.seed is None else self.seed + client,
            create_graph=create_graph,
        )

    def _gradient(
        self,
        weights: Mapping[str, Tensor],
        clips: Clips,
        labels: Tensor,
        moved: Mapping[str, Tensor],
        create_graph: bool,
    ) -> dict[str, Tensor]:
        """Return the gradient of the mean loss by `weights`, the model having those of `moved`."""
        with self.model.with_parameters(moved) if moved else nullcontext():
            loss = self.loss(self._outputs(clips), labels)
            gradients = torch.autograd.grad(
                loss, tuple(weights.values()), create_graph=create_graph, allow_unused=True, materialize_grads=True
            )
        return dict(zip(weights, gradients, strict=True))

    @contextmanager
    def _dropping(self, clips: Clips) -> Iterator[None]:
        """Draw this client's own masks, the same at every call, and leave torch's generator as it was."""
        if self.seed is None or self.protocol.dropout == "off":
            self.model.dropout(False)
            yield
            return
        with random_state_kept(clips.device):
            torch.manual_seed(self.seed)
            self.model.dropout(True)
            try:
                yield
            finally:
                self.model.dropout(False)


def observe(client: LocalClient, clips: Clips, labels: Tensor) -> Update:
    """Return the update that travels for these clips: detached, in float32."""
    return client.update(clips, labels)
