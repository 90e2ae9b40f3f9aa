"""What clients do, what leaves them, and what an attacker knows besides."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from auditor.records.defence import Defence
from auditor.records.forms import Algorithm, BatchNormMode, Clip, Clips, DropoutMode
from auditor.results.declare import Label, record


@record
class FederatedProtocol:
    """What a client trains on and sends.

    `batch` counts the clips behind the update that is seen: those of one client, or of all `clients` whose average is
    seen under secure aggregation. `trainable` are glob patterns over parameter names, `frozen` names that are left out
    nevertheless; `sent` the names that match and therefore travel, without those that are trained and `kept_back`.
    `dropout` on draws masks that the attacker does not know. With `send_buffers` the running statistics of BatchNorm
    travel too, as in FedAvg; without, clients keep them (FedBN, Li et al. 2021).

    Attributes
    ----------
    algorithm
        FedSGD sends the gradient of the mean loss. FedAvg (McMahan et al. 2017) trains for `local_epochs` over the
        clips in batches of `local_batch` (0: all at once) by SGD with step size `learning_rate` and `momentum` (no
        dampening, no weight decay), and sends the public weights less its own. FedSGD does not use these four.
    defence
        What is done to the update before it is sent, in this order, as the user writes it; of what a server does after
        averaging, an honest one sees nothing. Buffers are sent as they are.
    """

    algorithm: Algorithm = "FedSGD"
    batch: int = 1
    loss: str = "cross-entropy"
    labels: Literal["distinct", "equal"] = "distinct"
    bn: BatchNormMode = "eval"
    trainable: tuple[str, ...] = ("*",)
    sent: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()
    dropout: DropoutMode = "off"
    send_buffers: bool = False
    local_epochs: int = 1
    local_batch: int = 0
    learning_rate: float = 0.01
    momentum: float = 0.0
    defence: tuple[str, ...] = ()
    clients: int = 1
    kept_back: tuple[str, ...] = ()

    @property
    def per_clip(self) -> bool:
        """Whether one client treats its clips by themselves: then `clients` counts its clips."""
        return any(spec.startswith("per-clip:") for spec in self.defence)

    @property
    def clips_each(self) -> int:
        """Clips of one client."""
        return self.batch // self.clients

    @property
    def local_batches(self) -> int:
        """Batches of one epoch; 1 for FedSGD."""
        if self.algorithm == "FedSGD" or self.local_batch == 0:
            return 1
        return -(-self.clips_each // self.local_batch)

    @property
    def steps(self) -> int:
        """SGD steps behind one update; 1 for FedSGD."""
        return 1 if self.algorithm == "FedSGD" else self.local_epochs * self.local_batches

    @property
    def scale(self) -> float:
        """How many mean gradients an update adds up to: 1 for FedSGD; for FedAvg each step counts once for every later
        one that its momentum reaches, rate * sum_(t = 1..steps) (1 - momentum^t) / (1 - momentum).
        """
        if self.algorithm == "FedSGD":
            return 1.0
        return self.learning_rate * sum(self.momentum**k * (self.steps - k) for k in range(self.steps))


@record
class BatchStatistics:
    """Mean and variance per channel of what a BatchNorm layer saw."""

    mean: Float[Tensor, " channel"]
    variance: Float[Tensor, " channel"]


@runtime_checkable
class Client(Protocol):
    """A client's local computation: public code, so the attacker can repeat it on clips of its own choice.

    `protocol` is how it computes: for an attacker who does not know the details, what it assumes.
    """

    @property
    def protocol(self) -> FederatedProtocol:
        """How the client trains and what it sends."""
        ...

    def __call__(self, clips: Clips, labels: Tensor, *, create_graph: bool = False) -> dict[str, Tensor]:
        """Return the update by parameter: the gradient of the mean loss, or for FedAvg how far weights went down.

        `labels` are as `targets` makes them. With `create_graph` the result is differentiable in `clips` and `labels`.
        """
        ...

    def under(self, protocol: FederatedProtocol) -> "Client":
        """Return this client under another protocol."""
        ...

    def at(self, weights: Mapping[str, Tensor]) -> "Client":
        """Return this client with other public weights: a later round, or a point that an attack supposes.

        Parameters that are not named keep their values. Weights that need a gradient stay in the graph.
        """
        ...

    def targets(self, labels: Sequence[Label]) -> Tensor:
        """Return the labels of a batch in the form that the loss reads."""
        ...

    def simulate(
        self, clips: Clips, labels: Tensor, *, create_graph: bool = False
    ) -> tuple[dict[str, Tensor], dict[str, BatchStatistics]]:
        """Return the gradient and, where buffers are sent, the statistics of this batch by BatchNorm layer."""
        ...

    def batch_statistics(self, buffers: Mapping[str, Tensor], clips: Clips) -> dict[str, BatchStatistics]:
        """Return the statistics of the batch behind buffers that were sent; `clips` only give the shape."""
        ...


@record
class Update:
    """What leaves the client. It carries nothing of the truth but what the gradients and buffers themselves tell.

    `gradients` are those of one step for FedSGD. For FedAvg they are w0 - wT, the public weights less the client's:
    the sign of a gradient, the size of the learning rate, and the rounding of weights in float32 (about 6e-8 of a
    weight, which may be much of a small update). Both are as the protocol's defences leave them. `buffers` are
    BatchNorm running statistics after the last step, by name; empty where clients keep them.
    """

    gradients: Mapping[str, Tensor]
    batch: int
    algorithm: Algorithm = "FedSGD"
    precision: str = "float32"
    buffers: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        """Where the update is; the processor for one that holds nothing."""
        return next((g.device for g in self.gradients.values()), torch.device("cpu"))


def joint_norm(tensors: Iterable[Tensor]) -> float:
    """Return the Euclidean norm of several tensors of an update taken as one, computed in float64."""
    return math.sqrt(sum(float(t.double().square().sum()) for t in tensors))


@record
class Knowledge:
    """What this attacker is assumed to know besides the public model and the update.

    Attributes
    ----------
    threat_model
        Letter of the SoK of Carletti et al. (USENIX Security 2025); C is public model + training details.
    labels
        What each clip is trained as, if that is assumed known (or was restored from the update), else None.
    loss
        What clients minimise.
    reference
        Frames of the same scene, `(frame, channel, height, width)`, oldest first; None for R0.
    local_epochs, local_batch, learning_rate, momentum
        How a FedAvg client trains, as in `FederatedProtocol`; None where this attacker does not know. Without meaning
        for FedSGD.
    defences
        What the client is known to do to its update before it sends it, in this order.
    """

    clip_shape: tuple[int, int, int, int]
    batch: int
    classes: int
    threat_model: str = "C"
    labels: tuple[Label, ...] | None = None
    labels_from: str = "restored from the update"
    loss: str = "cross-entropy"
    reference: Clip | None = None
    local_epochs: int | None = None
    local_batch: int | None = None
    learning_rate: float | None = None
    momentum: float | None = None
    defences: tuple[Defence, ...] = ()
