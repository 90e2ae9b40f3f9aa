"""The set-up that every unit of an audit shares: target, protocol, client, probes and their updates."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from auditor.attack import restore_labels
from auditor.errors import UsageError
from auditor.federated import (
    LocalClient,
    Loss,
    assign_labels,
    batch_labels,
    kept_back,
    observe,
    parse_all,
    select_parameters,
)
from auditor.options import LOCAL
from auditor.probe import moving_texture
from auditor.records import (
    Clip,
    Clips,
    FederatedProtocol,
    InputSpec,
    Knowledge,
    Label,
    LabelGuess,
    Probe,
    Skipped,
    Target,
    Update,
    View,
    record,
)
from auditor.records.free_memory import return_free_memory
from auditor.text import printable


@record
class Observed:
    """One client's secret batch and the update it sent. Only `update` ever reaches an attack.

    `probe` is the clip that is scored; it is the first of `clips`.
    """

    probe: Probe
    clips: Clips
    labels: tuple[Label, ...]
    update: Update
    guess: LabelGuess | Skipped


@record
class Context:
    """Everything that attacks and controls need; the truth stays in `observed`."""

    target: Target
    protocol: FederatedProtocol
    client: LocalClient
    device: torch.device
    seed: int

    @property
    def input(self) -> InputSpec:
        """The model's input."""
        return self.target.input

    def client_of(self, probe: Probe) -> LocalClient:
        """Return the client that holds a probe: nobody else knows its dropout masks and the order of its clips."""
        return self.client.with_seed(unit_seed(self.seed, "dropout", probe.name))


def set_up(
    target: Target, protocol: FederatedProtocol, device: torch.device, seed: int, loss: Loss | None = None
) -> Context:
    """Fix what is sent and make the client."""
    protocol = with_sent(target, protocol)
    client = LocalClient(target.model, protocol, loss, target.classes)
    return Context(target=target, protocol=protocol, client=client, device=device, seed=seed)


def without_defences(context: Context) -> Context:
    """Return the set-up without the defences that change a client's update; what is not sent, and sums, stay."""
    kept = tuple(str(d) for d in context.client.defences if d.effect in ("omission", "sum"))
    protocol = replace(context.protocol, defence=kept)
    return replace(context, protocol=protocol, client=context.client.under(protocol))


def with_sent(target: Target, protocol: FederatedProtocol) -> FederatedProtocol:
    """Name the parameters that travel: those that match, less the frozen ones and those that a defence keeps back.

    Of a two-part model the extractor never travels, whatever was asked for.

    Raises
    ------
    UsageError
        A pattern matches nothing, or nothing but the extractor; or nothing is left to send.
    """
    names = list(target.parameters)
    closed = extractor_parameters(target)
    for pattern in protocol.trainable if closed else ():
        if closed.issuperset(select_parameters(target.layers, names, (pattern,))):
            raise UsageError(
                f"--trainable {printable(pattern)} names parameters of the extractor only, which is frozen",
                "name parameters of the head, or give the whole network as one MODEL to train the extractor too",
            )
    matching = select_parameters(target.layers, names, protocol.trainable)
    left = closed | set(protocol.frozen)
    trained = tuple(name for name in matching if name not in left)
    kept = kept_back(parse_all(protocol.defence), trained)
    if trained and len(kept) == len(trained):
        raise UsageError("--defence exclude leaves no parameter that is sent", "exclude fewer parameters")
    return replace(protocol, sent=tuple(name for name in trained if name not in kept), kept_back=kept)


def extractor_parameters(target: Target) -> frozenset[str]:
    """Return the names of what is frozen by architecture; empty but for two-part models."""
    return frozenset(name for name in target.parameters if target.parts and name.startswith("extractor."))


def observe_probes(
    context: Context, probes: Sequence[Probe], labels: Sequence[Label] | None = None
) -> tuple[Observed, ...]:
    """Let one client per probe compute its update; the other clips of its batch are textures of its own.

    No client holds a probe, or another view of the scene, of any other: each one's update is a null for the others.
    `labels` are what the probes are trained as; drawn from their names if None.
    """
    own = labels or assign_labels([p.name for p in probes], context.target.classes, kind=context.client.loss.kind)
    return tuple(_observe_probe(context, probe, label) for probe, label in zip(probes, own, strict=True))


def _observe_probe(context: Context, probe: Probe, label: Label) -> Observed:
    """Let a client compute its update on a probe trained as `label`, and the other clips of its batch."""
    batch, classes, kind = context.protocol.batch, context.target.classes, context.client.loss.kind
    others = [
        moving_texture(context.input, unit_seed(context.seed, "filler", probe.name, str(k))).clip
        for k in range(1, batch)
    ]
    clips = torch.stack([probe.clip, *others]).to(context.device)
    labels = batch_labels(label, batch, classes, distinct=context.protocol.labels == "distinct", kind=kind)
    update = observe(context.client_of(probe), clips, context.client.targets(labels))
    return_free_memory()
    view = view_with(context, update, None, None)
    return Observed(probe=probe, clips=clips, labels=labels, update=update, guess=restore_labels(view))


def view_of(context: Context, observed: Observed, reference: Clip | None = None) -> View:
    """Return what an attacker sees: restored labels where a rule is certain, else the true ones, assumed known."""
    if isinstance(observed.guess, LabelGuess) and observed.guess.certain:
        return view_with(context, observed.update, observed.guess.labels, reference)
    return view_with(context, observed.update, observed.labels, reference, labels_from="assumed known")


def view_with(
    context: Context,
    update: Update,
    labels: tuple[Label, ...] | None,
    reference: Clip | None,
    labels_from: str = "restored from the update",
) -> View:
    """Return what an attacker sees of an update who takes `labels` for the clips', or does not know them."""
    protocol, local = context.protocol, context.protocol.algorithm == "FedAvg"
    knowledge = Knowledge(
        clip_shape=context.input.clip_shape,
        batch=update.batch,
        classes=context.target.classes,
        labels=labels,
        labels_from=labels_from,
        reference=reference,
        loss=protocol.loss,
        defences=context.client.defences,
        **{name: getattr(protocol, name) for name in LOCAL if local},
    )
    return View(target=context.target, client=context.client, update=update, knowledge=knowledge)


def public_weights(context: Context) -> dict[str, Tensor] | None:
    """Return the public weights where what travels is a difference of weights, else None: what `expose` wants."""
    return context.target.parameters if context.protocol.algorithm == "FedAvg" else None


def unit_seed(seed: int, *names: str) -> int:
    """Derive a seed from what a unit is, never from when it runs."""
    text = "\x1f".join((str(seed), *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) % 1_000_000
