"""The model, the protocol, the probes and the layers, as the records that are written."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from auditor.exposure import Exposed, closed_form_flags, determinacy
from auditor.federated import parse_all
from auditor.pipeline.context import Context, Observed
from auditor.pipeline.documents.wording import THREAT_TITLE, assumptions, local_batch, out_of_scope
from auditor.records import FederatedProtocol, Layer, ModelPart, TemporalPool
from auditor.results.audit import (
    DefenceBlock,
    LocalTraining,
    OutputBlock,
    ProbeBlock,
    ProtocolBlock,
    ThreatModelBlock,
    UpdateBlock,
)
from auditor.results.declare import values_of
from auditor.results.model import Determinacy, LayerBlock, ModelBlock, ParameterCounts, PartBlock
from auditor.text import distinct


def model_block(context: Context) -> ModelBlock:
    """Return the audited model: what was loaded, and how much of it travels."""
    target, sent = context.target, context.protocol.sent
    parameters = target.parameters
    return ModelBlock(
        name=target.name,
        source=target.source,
        format=target.format,
        sha256=target.sha256,
        classes=target.classes,
        seconds_to_load=target.seconds,
        input=target.input,
        parameters=ParameterCounts(
            tensors=len(parameters),
            elements=sum(p.numel() for p in parameters.values()),
            sent_tensors=len(sent),
            sent_elements=sum(parameters[n].numel() for n in sent),
        ),
        operators=target.operators,
        fidelity=target.fidelity,
        parts=tuple(PartBlock(**values_of(ModelPart, p), trained=p.role == "head") for p in target.parts),
    )


def protocol_block(
    context: Context,
    observed: Observed,
    pool: TemporalPool | None,
    left_out: Mapping[str, Sequence[str]] = MappingProxyType({}),
    *,
    manipulated: bool = False,
) -> ProtocolBlock:
    """Return what clients train on and send.

    `pool` is how the user asked to pool frames; `left_out` names attacks by the defence that they do not know;
    `manipulated` tells that attacks of a malicious server were tried, too.
    """
    p, output = context.protocol, context.target.output
    return ProtocolBlock(
        algorithm=p.algorithm,
        batch=p.batch,
        loss=p.loss,
        labels=p.labels,
        bn=p.bn,
        trainable=p.trainable,
        frozen=len(p.frozen),
        dropout=p.dropout,
        local=_local(p),
        output=OutputBlock(name=output.name, frames=output.frames, activation=output.activation, pool=pool),
        update=UpdateBlock(gradients=len(p.sent), buffers=tuple(observed.update.buffers)),
        threat_model=ThreatModelBlock(
            id="C",
            title=THREAT_TITLE,
            assumes=tuple(assumptions(context)),
            out_of_scope=tuple(out_of_scope(p, manipulated=manipulated)),
        ),
        clients=p.clients,
        defences=tuple(
            DefenceBlock(name=str(d), told=d.told, acts=d.acts, unknown_to=tuple(left_out.get(str(d), ())))
            for d in parse_all(p.defence)
        ),
    )


def _local(protocol: FederatedProtocol) -> LocalTraining | None:
    """Local training; None for FedSGD, which has none."""
    if protocol.algorithm == "FedSGD":
        return None
    told = {**values_of(LocalTraining, protocol), "local_batch": local_batch(protocol)}
    return LocalTraining(**told)


def probe_block(o: Observed) -> ProbeBlock:
    """Return one probe and what it is trained as."""
    p = o.probe
    return ProbeBlock(
        name=p.name,
        kind=p.kind,
        sha256=p.sha256,
        shape=tuple(p.clip.shape),
        native_shape=tuple(p.native.shape),
        source=p.source,
        licence=p.licence,
        label=o.labels[0],
    )


def layer_blocks(context: Context, exposed: Exposed | None, reason: str) -> tuple[LayerBlock, ...]:
    """Return every layer in forward order; `reason` says why no exposure was measured, where none was."""
    target = context.target
    flags = closed_form_flags(target.layers, context.protocol, target.classes, target.parameters)
    names = distinct(context.target.parameters)
    sent = frozenset(context.protocol.sent)
    counted = {name: d for d in determined(context) for name in d.layers}
    return tuple(
        replace(
            _layer(layer, any(n in sent for n in layer.parameters), flags.get(layer.index, ()), names, exposed, reason),
            determinacy=counted.get(layer.name),
        )
        for layer in context.target.layers
    )


def determined(context: Context) -> tuple[Determinacy, ...]:
    """Return equations over unknowns of every layer whose weights are sent, for the clips of one update.

    Empty where an update is more than one gradient: after several local steps the equations no longer hold.
    """
    protocol = context.protocol
    if protocol.steps > 1:
        return ()
    sent = [layer for layer in context.target.layers if layer.parameters and layer.parameters[0] in protocol.sent]
    shapes = {name: tuple(value.shape) for name, value in context.target.parameters.items()}
    return determinacy(sent, shapes, protocol.batch)


def _layer(
    layer: Layer, sent: bool, flags: tuple[str, ...], names: Mapping[str, str], exposed: Exposed | None, reason: str
) -> LayerBlock:
    exposure = exposed.layers.get(layer.index) if exposed is not None and sent else None
    return LayerBlock(
        index=layer.index,
        name=layer.name,
        kind=layer.kind,
        parameters=tuple(names[n] for n in layer.parameters),
        elements=layer.elements,
        sent=sent,
        rows=layer.rows,
        input_shape=layer.input_shape,
        output_shape=layer.output_shape,
        exposure=exposure,
        flags=flags if sent else (),
        reason="" if exposure else "not sent" if not sent else reason,
    )
