"""Gradient matching through the client's local steps."""

from dataclasses import dataclass, field, replace

from auditor.attack.base import Attack
from auditor.attack.fedavg.epochs import EpochAgreement, can_part, merged, parted
from auditor.attack.fedavg.training import GuessedClient, without_training
from auditor.attack.matching.gradient_matching import MODE_MATCHING, GradientMatching
from auditor.records import Budget, Clips, Defence, Label, Reconstruction, Skipped, View


@dataclass(frozen=True, kw_only=True)
class UnrolledMatching(Attack):
    """min over x of objective(w0 - wT(x), w0 - wT) + priors(x), wT(x) what the client's SGD makes of x.

    Time and memory grow with the number of local steps. The order of clips within an epoch is the client's own, and
    matters where local batches are smaller than the batch. Either one order is assumed for all epochs, or every epoch
    has clips of its own, which must agree whatever their order, and are averaged in the end. At equal steps the first
    was as good or better wherever it was measured (benchmarks/fedavg.py).

    Attributes
    ----------
    search
        The gradient matching that is done: its objectives, priors, parametrisation and configurations.
    known
        Whether learning rate, epochs, batch size and momentum are used where they are known; else they are guessed, see
        `training`.
    agreement
        Weight of the prior that epochs, each with clips of its own, show the same ones; 0 takes one set of clips, in
        one order, for all epochs.
    """

    search: GradientMatching = field(default_factory=lambda: MODE_MATCHING)
    known: bool = True
    agreement: float = 0.0

    def meets(self, defence: Defence) -> bool:
        """Compare as the search does, where the client's training is known and epochs are not taken apart."""
        return self.known and self.agreement == 0.0 and self.search.meets(defence)

    def obstacle(self, view: View) -> str | None:
        """Need a FedAvg update of more than one step, and the details of training where they are to be used."""
        if view.one_gradient:
            return "the update is one gradient at the public weights: gradient matching does the same"
        if self.known and view.scale is None:
            return "this attacker does not know learning rate, epochs, batch size and momentum"
        if self.agreement > 0.0 and not can_part(view):
            return "it needs several epochs, each of several local batches that are all full"
        return self.search.obstacle(view)

    def measure(self, view: View, clips: Clips, labels: tuple[Label, ...]) -> float | None:
        """Return the search's objective; None where a step size, or every epoch's own clips, are found with it."""
        if not self.known or (self.agreement > 0.0 and can_part(view)):
            return None
        return self.search.measure(view, clips, labels)

    def invert(self, view: View, budget: Budget, seed: int) -> Reconstruction | Skipped:
        """Search with the client as it is known or guessed."""
        if not self.known:
            return self._guessing(without_training(view), budget, seed)
        if self.agreement > 0.0 and can_part(view):
            return self._apart(view, budget, seed)
        return self._named(self.search.invert(view, budget, seed))

    def _guessing(self, view: View, budget: Budget, seed: int) -> Reconstruction | Skipped:
        client = GuessedClient(view.client, view.update.gradients)
        found = self.search.invert(replace(view, client=client), budget, seed)
        return self._named(
            found, f"guessed: {client.protocol.local_epochs} steps of size {client.protocol.learning_rate:.2g}"
        )

    def _apart(self, view: View, budget: Budget, seed: int) -> Reconstruction | Skipped:
        epochs = view.client.protocol.local_epochs
        search = replace(self.search, priors=(*self.search.priors, EpochAgreement(epochs, self.agreement)))
        found = search.invert(parted(view), budget, seed)
        if isinstance(found, Reconstruction):
            found = replace(
                found,
                checkpoints=tuple(
                    replace(c, clips=merged(c.clips.float(), epochs), current=merged(c.current.float(), epochs))
                    for c in found.checkpoints
                ),
                clips=merged(found.clips, epochs),
                labels=found.labels[: len(found.labels) // epochs],
            )
        return self._named(found, f"averaged over {epochs} epochs, whose order is not known")

    def _named(self, found: Reconstruction | Skipped, *notes: str) -> Reconstruction | Skipped:
        if isinstance(found, Skipped):
            return replace(found, what=self.name)
        return replace(found, attack=self.name, notes=(*found.notes, *notes))
