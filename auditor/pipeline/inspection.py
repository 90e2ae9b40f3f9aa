"""What a model is, how it is read and how faithfully, without attacking it."""

from dataclasses import replace
from typing import Any

import torch

from auditor.exposure import closed_form_flags
from auditor.federated import assign_labels, batch_labels, guess_loss
from auditor.federated.model_check import check_model, suspicious
from auditor.options import ClientOptions
from auditor.pipeline.context import Context
from auditor.pipeline.defended.privacy_claim import claim_of, judge_claim
from auditor.pipeline.documents.model import determined
from auditor.pipeline.input_preview import InputPreview, input_preview, preview_picture
from auditor.pipeline.progress import Display
from auditor.pipeline.scan import choose_device, load_target
from auditor.pipeline.training import loss_of, trained
from auditor.probe import moving_texture, public_probes
from auditor.records import Fidelity, InputSpec, Layer, Target, record
from auditor.results.declare import values_of
from auditor.results.encode import document
from auditor.results.inspection import (
    ClientCheckBlock,
    EnteringBlock,
    FirstLayerBlock,
    FlagBlock,
    InspectedFidelity,
    InspectedInput,
    InspectedParameter,
    InspectionDocument,
    LossGuess,
)
from auditor.text import distinct

LONGEST_NAME = 300
# Public clips that the client-side check is made on, and for how long: large nets skip its test of single clips.
_CHECKED_ON, _CHECK_SECONDS = 4, 5.0
CHECK_NOTE = (
    "Signs of published manipulations by a malicious server (imprinted layers, baited heads). A model that passes is "
    "not thereby trustworthy."
)


@record
class Inspection:
    """What was found out.

    Attributes
    ----------
    document
        What `fl-audit inspect --json` prints.
    target, layers
        The model, and its layers with the shapes of their parameters.
    picture
        The probe frame as a PNG.
    """

    document: dict[str, Any]
    target: Target
    layers: tuple[Layer, ...]
    picture: bytes


def inspect(options: ClientOptions, display: Display) -> Inspection:
    """Load a model and describe it.

    Raises
    ------
    UsageError, NotAuditable
        See `errors`.
    """
    claim = claim_of(options.dp_claim, options.defence)
    device = choose_device(options.device)
    display.stage("loading the model")
    target = load_target(options, device)
    guess, why = guess_loss(target.classes, target.output)
    name = options.loss or guess
    context = trained(target, replace(options, loss=name), loss_of(name, target))
    clip = public_probes(target.input, 1)[0].clip
    with torch.no_grad():
        seen = input_preview(target, clip)
    flags = closed_form_flags(target.layers, context.protocol, target.classes, target.parameters)
    found = InspectionDocument(
        format=target.format,
        sha256=target.sha256,
        input=_input(options, target, seen),
        parameters=_parameters(context),
        operators=target.operators,
        fidelity=InspectedFidelity(
            **values_of(Fidelity, context.target.fidelity),
            loss=context.protocol.loss,
            loss_guess=LossGuess(loss=guess, because=why),
            classes=target.classes,
            client_bn=context.protocol.bn,
            seconds_to_load=target.seconds,
        ),
        flags=tuple(
            FlagBlock(layer=layer.name, kind=layer.kind, text=text)
            for layer in target.layers
            for text in flags.get(layer.index, ())
        ),
        determinacy=determined(context),
        client_check=_client_check(context),
        privacy=None if claim is None else judge_claim(claim, context.protocol),
    )
    picture = preview_picture(clip, seen)
    return Inspection(document=document(found), target=target, layers=target.layers, picture=picture)


def _client_check(context: Context) -> ClientCheckBlock:
    """What a client could tell of the model before training it, on public clips."""
    spec, classes, kind = context.input, context.target.classes, context.client.loss.kind
    real = [probe.clip for probe in public_probes(spec, _CHECKED_ON // 2)]
    made = [moving_texture(spec, seed).clip for seed in range(1, 1 + _CHECKED_ON - len(real))]
    clips = torch.stack([*real, *made]).to(context.device)
    labels = batch_labels(assign_labels(["check"], classes, kind=kind)[0], len(clips), classes, kind=kind)
    checks = check_model(context.target, context.client, clips, labels, _CHECK_SECONDS)
    return ClientCheckBlock(suspicious=len(suspicious(checks)), note=CHECK_NOTE, tests=checks)


def _parameters(context: Context) -> tuple[InspectedParameter, ...]:
    names = distinct(context.target.parameters, LONGEST_NAME)
    owner = {name: layer.name for layer in context.target.layers for name in layer.parameters}
    sent = frozenset(context.protocol.sent)
    return tuple(
        InspectedParameter(name=names[name], shape=tuple(value.shape), trainable=name in sent, layer=owner.get(name))
        for name, value in context.target.parameters.items()
    )


def _input(options: ClientOptions, target: Target, seen: InputPreview) -> InspectedInput:
    return InspectedInput(
        **values_of(InputSpec, target.input),
        origins=_origins(options, target),
        entering=EnteringBlock(**values_of(EnteringBlock, seen)),
        first_layer=FirstLayerBlock(name=seen.reader, shape=seen.read_shape, how=seen.how),
    )


def _origins(options: ClientOptions, target: Target) -> dict[str, str]:
    """Say where each part of the input's description comes from."""
    spec, published = target.input, target.input.origin
    return {
        "size": "given by --input-shape" if options.input_shape else published,
        "layout": "given by --layout" if options.layout else _layout_origin(spec),
        "mean": _origin("--mean", options.mean, spec.mean != (0.0,), published, "taken as 0: the source states none"),
        "std": _origin("--std", options.std, spec.std != (1.0,), published, "taken as 1: the source states none"),
        "value_range": _origin(
            "--range",
            options.range,
            spec.value_range != (0.0, 1.0),
            published,
            "taken as [0, 1]: it is not stated",
        ),
    }


def _layout_origin(spec: InputSpec) -> str:
    if spec.origin.startswith("stated"):
        return f"{spec.origin}, or deduced where it is not"
    if spec.channels in (1, 3):
        return "deduced from the only axis that can hold colour"
    return "deduced from the channels that the first convolution reads"


def _origin(option: str, given: object, stated: bool, published: str, otherwise: str) -> str:
    return f"given by {option}" if given else published if stated else otherwise
