"""A FedSGD client: the gradient of the mean loss over its batch."""

import torch
from torch import Tensor
from torch.nn import functional as F

from auditor.records import Clips, FederatedProtocol, PublicModel, Update


class LocalClient:
    """Compute what a client sends for a batch of clips (FedSGD, McMahan et al. 2017, E=1 and full batch).

    The code is public: the auditor calls it on probe clips, the attacker on clips of its own choice.

    Parameters
    ----------
    model
        The public model.
    protocol
        Loss, BatchNorm mode and the names that are sent.
    """

    def __init__(self, model: PublicModel, protocol: FederatedProtocol) -> None:
        self.model = model
        self.protocol = protocol
        parameters = dict(model.named_parameters())
        self.names = protocol.sent
        self._sent = tuple(parameters[name] for name in self.names)

    def __call__(self, clips: Clips, labels: Tensor, *, create_graph: bool = False) -> dict[str, Tensor]:
        """Return the gradient of the mean cross-entropy, by parameter name.

        `labels` are class indices `(clip,)` or class probabilities `(clip, class)`. A parameter that the loss does
        not depend on has gradient zero, as a client that sends the whole state would send it.
        """
        self.model.batchnorm(self.protocol.batchnorm)
        with torch.enable_grad():
            loss = F.cross_entropy(self.model(clips), labels)
            gradients = torch.autograd.grad(
                loss, self._sent, create_graph=create_graph, allow_unused=True, materialize_grads=True
            )
        return dict(zip(self.names, gradients, strict=True))


def observe(client: LocalClient, clips: Clips, labels: Tensor) -> Update:
    """Return the update that travels for these clips: detached, in float32."""
    gradients = client(clips, labels)
    return Update(gradients={name: g.detach() for name, g in gradients.items()}, batch=len(clips))
