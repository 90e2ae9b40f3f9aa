"""What an attack may look at, and what it makes of it."""

from torch import Tensor

from auditor.records.forms import Clips
from auditor.records.target import Target
from auditor.records.update import Client, FederatedProtocol, Knowledge, Update
from auditor.results.attempts import Attempt
from auditor.results.declare import Label, record


@record
class View:
    """All that an attack may look at. The probe is not in it: the attacker is blind by type."""

    target: Target
    client: Client
    update: Update
    knowledge: Knowledge

    @property
    def one_gradient(self) -> bool:
        """Whether the update is known to be one gradient at the public weights, up to its size."""
        if self.update.algorithm == "FedSGD":
            return True
        k = self.knowledge
        known = k.local_epochs is not None and k.local_batch is not None
        return known and self._training().steps == 1

    @property
    def scale(self) -> float | None:
        """The size of the update in mean gradients (see `FederatedProtocol.scale`); None where it is not known."""
        if any(defence.effect == "scale" for defence in self.knowledge.defences):
            return None
        if self.update.algorithm == "FedSGD":
            return 1.0
        k = self.knowledge
        if k.local_epochs is None or k.local_batch is None or k.learning_rate is None or k.momentum is None:
            return None
        return self._training().scale or None

    def _training(self) -> FederatedProtocol:
        k = self.knowledge
        return FederatedProtocol(
            algorithm="FedAvg",
            batch=self.update.batch,
            clients=self.client.protocol.clients,
            local_epochs=k.local_epochs or 1,
            local_batch=k.local_batch or 0,
            learning_rate=k.learning_rate or 0.0,
            momentum=k.momentum or 0.0,
        )


@record
class Checkpoint:
    """A search after so many steps; clips are on the CPU, in half precision.

    `clips` are the best so far and `objective` is theirs, by the attacker's own measure; `current` is the iterate.
    """

    step: int
    seconds: float
    objective: float
    clips: Clips
    current: Clips


@record
class RecoveredActivation:
    """What a layer read of the clip, as an attack recovered it: `value` is as the layer of `weight` reads it."""

    weight: str
    value: Tensor


@record
class Reconstruction(Attempt):
    """What an attack made of an update, with all that is written of it.

    Attributes
    ----------
    clips
        In [0, 1]; the best iterate by the attacker's own objective.
    checkpoints
        The chosen restart on its way, as far as the budget asked for it.
    activation
        The lowest value between the layers that is recovered as a whole; None where there is none.
    """

    attack: str
    clips: Clips
    checkpoints: tuple[Checkpoint, ...] = ()
    activation: RecoveredActivation | None = None


@record
class LabelGuess:
    """Labels that a restoration rule read off an update, one per clip, most certain first."""

    rule: str
    labels: tuple[Label, ...]
    certain: bool
