"""From files to an update as an attack reads it: what the tensors are, and what they are an update of."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from auditor.errors import UsageError
from auditor.model.pytorch.weights import Weights
from auditor.options import ClientOptions
from auditor.pipeline.captured.files import digest, read_update_file
from auditor.pipeline.captured.matching import Matching, match, state_of
from auditor.pipeline.context import Context
from auditor.pipeline.scan import choose_device, load_target
from auditor.pipeline.training import loss_of, trained
from auditor.records import FederatedProtocol, Target, Update, joint_norm, record
from auditor.results.updates.captured import CapturedBlock, CapturedFile
from auditor.text import printable
from auditor.update_options import CapturedUpdate

Kind = Literal["gradient", "difference", "weights"]
# What a round of training changes is a small part of the weights; a file that is nearer to them than half of their
# norm holds weights.
_NEAR = 0.5
_ROLES: tuple[Literal["before", "update", "after"], ...] = ("before", "update", "after")


@record
class Captured:
    """An update from files, the client that is taken to have sent it, and what is told of the files.

    `context.protocol.sent` names what the files hold, that of `expected` what clients send as the options have it.
    """

    expected: Context
    context: Context
    update: Update
    block: CapturedBlock


def check_given(captured: CapturedUpdate, options: ClientOptions) -> None:
    """Raise UsageError, before a model is loaded, where the options do not say one update.

    A difference of weights is local training, whose steps an attacker has to repeat.
    """
    if captured.update is not None and captured.after is not None:
        raise UsageError("--update and --after were given", "give one of the two")
    if captured.before is not None and captured.after is None and captured.update is None:
        raise UsageError("--before was given without --after", "add --after, or --update")
    if captured.after is not None and options.algorithm == "FedSGD":
        raise UsageError(
            "--after gives weights after local training, and --algorithm is fedsgd",
            "add --algorithm fedavg with --local-epochs and --learning-rate; one step is --local-epochs 1",
        )


def capture(captured: CapturedUpdate, options: ClientOptions) -> Captured:
    """Load the model and read the update.

    Raises
    ------
    UsageError
        A file is missing, damaged, of another model, or not what the options say that clients send.
    NotAuditable
        The model cannot be audited.
    """
    check_given(captured, options)
    target = load_target(options, choose_device(options.device))
    values = sum(value.numel() for value in state_of(target).values())
    if captured.before is not None:
        _begin_with(read_update_file(captured.before, "--before", values), target)
    context = trained(target, options, loss_of(options.loss, target))
    path, flag = (captured.after, "--after") if captured.after is not None else (captured.update, "--update")
    if path is None:
        raise UsageError("no update was given", "give --update FILE, or --after FILE")
    weights = read_update_file(path, flag, values)
    found = match(weights, target, context.protocol.sent)
    kind = _kind(weights, found, target, context.protocol, flag)
    _check_steps(weights, context.protocol)
    protocol = replace(context.protocol, sent=tuple(n for n in context.protocol.sent if n in found.tensors))
    update = Update(
        gradients={name: _gradient(found.tensors[name], target.parameters[name], kind) for name in protocol.sent},
        batch=protocol.batch,
        algorithm=protocol.algorithm,
        buffers=_buffers(found, target, kind, weights.name) if protocol.send_buffers else {},
    )
    return Captured(
        expected=context,
        context=replace(context, protocol=protocol, client=context.client.under(protocol)),
        update=update,
        block=_block(captured, weights, found, update, kind),
    )


def _begin_with(weights: Weights, target: Target) -> None:
    """Let the model have the weights that the client began with."""
    found = match(weights, target, list(target.parameters))
    own = state_of(target)
    with torch.no_grad():
        for name, value in found.tensors.items():
            own[name].copy_(value)


def _kind(weights: Weights, found: Matching, target: Target, protocol: FederatedProtocol, flag: str) -> Kind:
    """Tell what the tensors are: the file may say it; else weights are near the model's own, and updates are not."""
    if flag == "--after" or weights.kind == "WEIGHTS" or (not weights.kind and _near(found, target)):
        kind: Kind = "weights"
    elif weights.kind == "WEIGHT_DIFF" or protocol.algorithm == "FedAvg":
        kind = "difference"
    else:
        return "gradient"
    if protocol.algorithm == "FedAvg":
        return kind
    what = "weights" if kind == "weights" else "a difference of weights"
    raise UsageError(
        f"{weights.name} holds {what}, and --algorithm fedsgd sends a gradient",
        "add --algorithm fedavg with --local-epochs and --learning-rate; one step is --local-epochs 1",
    )


def _near(found: Matching, target: Target) -> bool:
    own = {name: p.detach().cpu() for name, p in target.parameters.items() if name in found.tensors}
    off = sum(float((found.tensors[name].float() - p).double().square().sum()) for name, p in own.items())
    return off < _NEAR**2 * sum(float(p.double().square().sum()) for p in own.values())


def _check_steps(weights: Weights, protocol: FederatedProtocol) -> None:
    if weights.steps is None or protocol.algorithm != "FedAvg" or weights.steps == protocol.steps:
        return
    raise UsageError(
        f"{weights.name} says that its client took {weights.steps} local steps, and the options describe "
        f"{protocol.steps}",
        "give the --batch, --local-epochs and --local-batch that it trained with",
    )


def _gradient(value: Tensor, parameter: Tensor, kind: Kind) -> Tensor:
    """Return one parameter's update with the sign of a gradient, as `Update` wants it."""
    value = value.to(parameter.device, torch.float32)
    if kind == "gradient":
        return value
    return parameter.detach() - value if kind == "weights" else -value


def _buffers(found: Matching, target: Target, kind: Kind, name: str) -> Mapping[str, Tensor]:
    """Return the running statistics after the last step."""
    own = state_of(target)
    held = {key: value for key, value in found.tensors.items() if key not in target.parameters}
    buffers = {key: value.to(own[key]) for key, value in held.items() if value.is_floating_point()}
    if not buffers:
        raise UsageError(f"{name} holds no running statistics of BatchNorm", "leave --send-buffers out")
    return {key: own[key] + value for key, value in buffers.items()} if kind == "difference" else buffers


def _block(captured: CapturedUpdate, weights: Weights, found: Matching, update: Update, kind: Kind) -> CapturedBlock:
    return CapturedBlock(
        files=tuple(_file(role, getattr(captured, role)) for role in _ROLES if getattr(captured, role) is not None),
        kind=kind,
        norm=joint_norm(update.gradients.values()),
        steps=weights.steps,
        matched=found.rows,
        missing=found.missing,
        unexpected=found.unexpected,
        notes=found.notes,
    )


def _file(role: Literal["before", "update", "after"], path: Path) -> CapturedFile:
    return CapturedFile(role=role, name=printable(path.name), sha256=digest(path))
