"""A FedSGD client: the gradient of the mean loss over its batch, and the buffers that travel with it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from auditor.federated.buffers import Tracked, tracked
from auditor.federated.loss import CrossEntropy, Loss, check_twice, targets_of
from auditor.records import BatchStatistics, Clips, FederatedProtocol, Label, PublicModel, Update


class LocalClient:
    """Compute what a client sends for a batch of clips (FedSGD, McMahan et al. 2017, E=1 and full batch).

    The code is public: the auditor calls it on probe clips, the attacker on clips of its own choice.

    Parameters
    ----------
    model
        The public model.
    protocol
        BatchNorm and dropout mode, and the names that are sent.
    loss
        What is minimised; cross-entropy on logits unless given.
    classes
        How many outputs the model has, for multi-label targets.
    masks
        Seed of this client's dropout masks. The attacker does not know it: without a seed dropout is off.
    """

    def __init__(
        self,
        model: PublicModel,
        protocol: FederatedProtocol,
        loss: Loss | None = None,
        classes: int = 0,
        masks: int | None = None,
    ) -> None:
        self.model = model
        self.protocol = protocol
        self.loss = CrossEntropy() if loss is None else loss
        self.classes = classes
        self.masks = masks
        parameters = dict(model.named_parameters())
        self.names = protocol.sent
        self._sent = tuple(parameters[name] for name in self.names)

    def under(self, protocol: FederatedProtocol) -> "LocalClient":
        """Return this client under another protocol."""
        return LocalClient(self.model, protocol, self.loss, self.classes, self.masks)

    def with_masks(self, seed: int) -> "LocalClient":
        """Return the client that drops values by masks of its own, where the protocol has dropout on."""
        return LocalClient(self.model, self.protocol, self.loss, self.classes, seed)

    def targets(self, labels: Sequence[Label]) -> Tensor:
        """Return the labels of a batch in the form that the loss reads, where the model is."""
        return targets_of(labels, self.loss.kind, self.classes).to(next(iter(self.model.named_parameters()))[1].device)

    def __call__(self, clips: Clips, labels: Tensor, *, create_graph: bool = False) -> dict[str, Tensor]:
        """Return the gradient of the mean loss, by parameter name.

        `labels` are as `targets` makes them; for cross-entropy class indices `(clip,)` or probabilities
        `(clip, class)`. A parameter that the loss does not depend on has gradient zero, as a client that sends the
        whole state would send it.
        """
        return self._step(clips, labels, create_graph=create_graph, watch=False)[0]

    def simulate(
        self, clips: Clips, labels: Tensor, *, create_graph: bool = False
    ) -> tuple[dict[str, Tensor], dict[str, BatchStatistics]]:
        """Return the gradient and, where buffers are sent, the statistics of this batch by BatchNorm layer."""
        gradients, steps = self._step(clips, labels, create_graph=create_graph, watch=self.protocol.send_buffers)
        return gradients, {site: step.batch for site, step in steps.items()}

    def update(self, clips: Clips, labels: Tensor) -> Update:
        """Return the update that travels for these clips: detached, in float32."""
        gradients, steps = self._step(clips, labels, create_graph=False, watch=self.protocol.send_buffers)
        return Update(
            gradients={name: g.detach() for name, g in gradients.items()},
            batch=len(clips),
            buffers={name: value.detach() for step in steps.values() for name, value in step.after.items()},
        )

    def batch_statistics(self, buffers: Mapping[str, Tensor], clips: Clips) -> dict[str, BatchStatistics]:
        """Return the statistics of the batch behind buffers that were sent; `clips` only give the shape.

        The old values, the momentum and the order of layers are public; so what the batch added is too.
        """
        self.model.batchnorm(self.protocol.batchnorm)
        with torch.no_grad(), self.model.statistics() as seen:
            self.model(clips)
        return {site: step.before(buffers) for site, step in tracked(seen).items()}

    def check(self, clips: Clips, labels: Tensor) -> None:
        """Raise UsageError, in one line, unless the loss can be differentiated twice on these clips."""
        self.model.batchnorm(self.protocol.batchnorm)
        clips = clips.clone().requires_grad_(True)
        check_twice(self.loss, self._outputs(clips), labels, clips)

    def _outputs(self, clips: Clips) -> Any:
        return self.model.outputs(clips) if self.loss.raw else self.model(clips)

    def _step(
        self, clips: Clips, labels: Tensor, *, create_graph: bool, watch: bool
    ) -> tuple[dict[str, Tensor], dict[str, Tracked]]:
        self.model.batchnorm(self.protocol.batchnorm)
        with torch.enable_grad(), self._dropping(clips), self.model.statistics() if watch else nullcontext([]) as seen:
            loss = self.loss(self._outputs(clips), labels)
            gradients = torch.autograd.grad(
                loss, self._sent, create_graph=create_graph, allow_unused=True, materialize_grads=True
            )
        return dict(zip(self.names, gradients, strict=True)), tracked(seen)

    @contextmanager
    def _dropping(self, clips: Clips) -> Iterator[None]:
        """Draw this client's own masks, the same at every call, and leave torch's generator as it was."""
        if self.masks is None or self.protocol.dropout == "off":
            self.model.dropout(False)
            yield
            return
        devices = [clips.device] if clips.is_cuda else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(self.masks)
            self.model.dropout(True)
            try:
                yield
            finally:
                self.model.dropout(False)


def observe(client: LocalClient, clips: Clips, labels: Tensor) -> Update:
    """Return the update that travels for these clips: detached, in float32."""
    return client.update(clips, labels)
