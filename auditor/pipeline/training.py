"""What the user said about training, fitted to the model: protocol, loss, and what the report must say about both."""

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch

from auditor.declaring import options_of
from auditor.errors import UsageError
from auditor.federated import (
    LOSSES,
    ClientTraining,
    Loss,
    PerClip,
    RandomK,
    assign_labels,
    batch_labels,
    clients_of,
    clips_behind,
    make_loss,
    output_remarks,
    parse_all,
)
from auditor.model.sandbox.user_file import executed
from auditor.options import ClientOptions
from auditor.pipeline.context import Context, Observed, observe_probes, set_up
from auditor.records import Defence, FederatedProtocol, Label, Probe, Target, at_client
from auditor.text import printable

# What an option says of the protocol under the same name.
_AS_GIVEN = {o.name for o in options_of(ClientOptions)} & {f.name for f in fields(FederatedProtocol)}
# As many clips as one client may have: attacks are planned for no more.
_MOST_CLIPS = 64
_ONE_VALUE = "more than 1 value per channel"


def trained(target: Target, options: ClientOptions, loss: Loss) -> Context:
    """Return the set-up of an audit: the target with its notes, and a client that trains as the user said.

    Raises
    ------
    UsageError
        An option does not fit the model.
    """
    given = {name: getattr(options, name) for name in _AS_GIVEN - {"defence"}}
    steps = FederatedProtocol(**given).steps
    training = ClientTraining(clips=options.batch, steps=steps, one_gradient=options.algorithm == "FedSGD")
    defences = parse_all(options.defence, training)
    _check_per_clip(defences, training)
    check_order(defences)
    clips = clips_behind(defences, options.batch)
    if clips > _MOST_CLIPS:
        raise UsageError(
            f"{clips} clips of {clients_of(defences)} clients are behind one update",
            f"give a smaller --batch, or fewer clients: {_MOST_CLIPS} clips at most",
        )
    of_the_model: dict[str, Any] = {
        "trainable": options.trainable or (("head.*",) if target.parts else ("*",)),
        "frozen": target.cut if options.trainable else target.frozen,
        "defence": tuple(map(str, defences)),
        "batch": clips,
        "clients": clients_of(defences),
    }
    protocol = FederatedProtocol(**{**given, **of_the_model})
    _check(protocol, target)
    notes = (*target.fidelity.notes, *output_remarks(loss, target.output), *_dropout_note(protocol, target))
    noted = replace(target, fidelity=replace(target.fidelity, notes=notes))
    return set_up(noted, protocol, next(iter(target.parameters.values())).device, options.seed, loss)


def loss_of(name: str, target: Target) -> Loss:
    """Return the loss of that name; `path/file.py:name` is executed.

    Raises
    ------
    UsageError
        There is no such loss, or it does not fit the model.
    """
    return make_loss(name, target.output, target.classes, None if name in LOSSES else user_function(name))


def user_function(source: str) -> Callable[..., Any]:
    """Return a user's function from `path/file.py:name`. The file is executed.

    Raises
    ------
    UsageError
        It is missing, raises, or is no function.
    """
    text, colon, name = source.rpartition(":")
    remedy = f"use {', '.join(LOSSES)}, or path/file.py:name"
    if not colon or not text:
        raise UsageError(f"--loss {printable(source)} is unknown", remedy)
    path = Path(text)
    if not path.is_file():
        raise UsageError(f"--loss: there is no file {printable(text)}", remedy)
    function = getattr(executed(path, remedy), name, None)
    if not callable(function):
        raise UsageError(
            f"{printable(path.name)} defines no function '{printable(name)}'", "name a function loss(outputs, targets)"
        )
    return function


def observe_all(
    context: Context, probes: Sequence[Probe], labels: Sequence[Label] | None = None
) -> tuple[Observed, ...]:
    """Let every client compute its update, and check the loss on the first; labels are drawn from names unless given.

    Raises
    ------
    UsageError
        BatchNorm has a single value a channel to normalise, the user's loss does not work, or local training diverges.
    """
    try:
        if context.protocol.loss not in LOSSES:
            _try_out(context, probes[0])
        observed = observe_probes(context, probes, labels)
    except UsageError:
        raise
    except Exception as error:
        if _ONE_VALUE not in str(error):
            raise
        raise UsageError(
            "with --bn train and one clip a BatchNorm layer sees a single value a channel, and nothing is left of it",
            "give --batch 2 or more, or --bn eval",
        ) from error
    if context.protocol.algorithm == "FedAvg" and not all(
        bool(torch.isfinite(g).all()) for o in observed for g in o.update.gradients.values()
    ):
        raise UsageError(
            f"with --learning-rate {context.protocol.learning_rate:g} local training diverges: "
            "weights hold NaN or infinity",
            "give a smaller --learning-rate",
        )
    return observed


def _try_out(context: Context, probe: Probe) -> None:
    """Differentiate a user's loss twice before anything is measured with it."""
    kind, client = context.client.loss.kind, context.client
    label = assign_labels([probe.name], context.target.classes, kind=kind)[0]
    labels = batch_labels(label, context.protocol.batch, context.target.classes, kind=kind)
    client.check(probe.clip.to(context.device).expand(len(labels), *probe.clip.shape), client.targets(labels))


def _check_per_clip(defences: Sequence[Defence], training: ClientTraining) -> None:
    """Each clip of the batch is one of those that are treated by themselves, in one gradient."""
    each = next((d for d in defences if isinstance(d, PerClip)), None)
    if each is None:
        return
    if not training.one_gradient:
        raise UsageError(f"--defence {each} treats the clips of one gradient", "use --algorithm fedsgd")
    if each.clients != training.clips:
        raise UsageError(
            f"--defence {each} names {each.clients} clips, and --batch is {training.clips}", "give the same number"
        )


def check_order(defences: Sequence[Defence]) -> None:
    """Raise UsageError for what no attack knows: noise of a size that nobody can tell, a choice that cannot be seen."""
    noise: Defence | None = None
    drawn: Defence | None = None
    for defence in at_client(defences):
        if noise is not None and defence.effect == "scale":
            raise UsageError(
                f"--defence {noise} before {defence}: noise that a clip scales afterwards is not modelled",
                "write the clip first, as clients clip before they add noise",
            )
        if drawn is not None and defence.effect in ("noise", "sum"):
            raise UsageError(
                f"--defence {drawn} before {defence}: which entries were sent cannot be seen then, and is not modelled",
                f"write {drawn} last, or leave it out: the update without it shows at least as much",
            )
        noise = defence if defence.effect == "noise" else noise
        drawn = defence if isinstance(defence, RandomK) else drawn


def _check(protocol: FederatedProtocol, target: Target) -> None:
    if protocol.send_buffers and protocol.clients > 1:
        raise UsageError(
            "--send-buffers: the average of several clients' running statistics is not modelled",
            "leave --send-buffers or --defence secure-aggregation out",
        )
    if protocol.send_buffers and target.fidelity.batchnorm != "kept":
        raise UsageError(
            "--send-buffers: the model has no BatchNorm whose running statistics could be sent",
            "leave --send-buffers out",
        )
    if protocol.dropout == "on" and not target.dropout:
        raise UsageError(
            "--dropout on: the model has no dropout that could be switched on (exports for evaluation leave it out, "
            "and functions cannot be switched)",
            "leave --dropout out, or export in training mode",
        )


def _dropout_note(protocol: FederatedProtocol, target: Target) -> list[str]:
    if not target.dropout:
        return []
    places = f"{target.dropout} place{'s' if target.dropout > 1 else ''}"
    if protocol.dropout == "off":
        return [
            f"Training drops values at random in {places} of the model; the audit leaves that off. Give --dropout on "
            "to audit updates that were computed with it."
        ]
    return [
        f"Updates are computed with dropout in {places}, by masks that the attacker does not know; the attacks "
        "simulate the client without dropout. Attacks that search for the masks too (Scheliga et al. 2022, arXiv "
        "2208.06163) can do better, so a low result is no protection."
    ]
