"""The set-up that every unit of an audit shares: target, protocol, client, probes and their updates."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import torch

from auditor.attack import restore_labels
from auditor.federated import LocalClient, assign_labels, observe, select_parameters
from auditor.probe import moving_texture
from auditor.records import (
    Clip,
    Clips,
    FederatedProtocol,
    InputSpec,
    Knowledge,
    LabelGuess,
    Probe,
    Skipped,
    Target,
    Update,
    View,
    record,
)


@record
class Observed:
    """One client's secret batch and the update it sent. Only `update` ever reaches an attack.

    `probe` is the clip that is scored; it is the first of `clips`.
    """

    probe: Probe
    clips: Clips
    labels: tuple[int, ...]
    update: Update
    guess: LabelGuess | Skipped


@record
class Bench:
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


def set_up(target: Target, protocol: FederatedProtocol, device: torch.device, seed: int) -> Bench:
    """Fix what is sent and make the client."""
    sent = select_parameters(target.layers, list(target.parameters), protocol.trainable)
    protocol = replace(protocol, sent=sent)
    return Bench(target=target, protocol=protocol, client=LocalClient(target.model, protocol), device=device, seed=seed)


def observe_probes(bench: Bench, probes: Sequence[Probe]) -> tuple[Observed, ...]:
    """Let one client per probe compute its update; the other clips of its batch are textures of its own.

    No client holds a probe, or another view of the scene, of any other: each one's update is a null for the others.
    """
    batch, classes = bench.protocol.batch, bench.target.classes
    own = assign_labels([p.name for p in probes], classes)
    observed = []
    for i, probe in enumerate(probes):
        others = [
            moving_texture(bench.input, unit_seed(bench.seed, "filler", probe.name, str(k))).clip
            for k in range(1, batch)
        ]
        clips = torch.stack([probe.clip, *others]).to(bench.device)
        labels = _batch_labels(own[i], batch, classes, bench.protocol.labels == "distinct")
        update = observe(bench.client, clips, torch.tensor(labels, device=bench.device))
        view = _view(bench, update, None, None)
        observed.append(Observed(probe=probe, clips=clips, labels=labels, update=update, guess=restore_labels(view)))
    return tuple(observed)


def view_of(bench: Bench, observed: Observed, reference: Clip | None = None) -> View:
    """Return what an attacker sees: restored labels where a rule is certain, else the true ones, assumed known."""
    if isinstance(observed.guess, LabelGuess) and observed.guess.certain:
        return _view(bench, observed.update, observed.guess.labels, reference)
    return _view(bench, observed.update, observed.labels, reference, labels_from="assumed known")


def _view(
    bench: Bench,
    update: Update,
    labels: tuple[int, ...] | None,
    reference: Clip | None,
    labels_from: str = "restored from the update",
) -> View:
    knowledge = Knowledge(
        clip_shape=bench.input.clip_shape,
        batch=update.batch,
        classes=bench.target.classes,
        labels=labels,
        labels_from=labels_from,
        reference=reference,
    )
    return View(target=bench.target, client=bench.client, update=update, knowledge=knowledge)


def _batch_labels(first: int, batch: int, classes: int, distinct: bool) -> tuple[int, ...]:
    return tuple((first + k) % classes if distinct else first for k in range(batch))


def unit_seed(seed: int, *names: str) -> int:
    """Derive a seed from what a unit is, never from when it runs."""
    text = "\x1f".join((str(seed), *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) % 1_000_000
