"""What `fl-audit replay --json` prints (docs/captured.md)."""

from typing import Any

from auditor import __version__
from auditor.pipeline.captured.replay import TOLERANCE, Comparison
from auditor.pipeline.documents.attack import model_block, protocol_block
from auditor.pipeline.documents.environment import environment_block
from auditor.results.declare import values_of
from auditor.results.encode import document
from auditor.results.updates.replay import REPLAY, ExplanationBlock, ReplayDocument, ReplayedBlock, ReplayTool


def replay_document(found: Comparison) -> dict[str, Any]:
    """Return the comparison as plain values."""
    context = found.captured.expected
    made = ReplayDocument(
        schema=REPLAY,
        tool=ReplayTool(
            name="fl-audit",
            version=__version__,
            started=found.started.isoformat(timespec="seconds"),
            seconds=found.seconds,
            command=found.options.command,
            seed=found.options.seed,
        ),
        model=model_block(context),
        protocol=protocol_block(context),
        update=found.captured.block,
        clip=ReplayedBlock(
            name=found.probe.name,
            sha256=found.probe.sha256,
            label=found.labelled.labels[0],
            label_from=found.labelled.origin,
        ),
        agrees=found.agrees,
        tolerance=TOLERANCE,
        difference=found.difference,
        cosine=found.cosine,
        tensors=found.tensors,
        explanations=tuple(ExplanationBlock(**values_of(ExplanationBlock, e)) for e in found.explanations),
        explained=found.explained,
        untried=found.untried if not found.agrees else (),
        environment=environment_block(context.device),
    )
    return document(made)
