"""What `fl-audit attack --update --json` prints (docs/captured.md)."""

from typing import Any

from auditor.pipeline.captured.attack import NOT_CLAIMED, AttackedCapture
from auditor.pipeline.documents.attack import model_block, protocol_block, tool_block
from auditor.pipeline.documents.environment import environment_block
from auditor.results.attack import AttackBlock, KnowledgeBlock
from auditor.results.attempts import Attempt
from auditor.results.declare import values_of
from auditor.results.encode import document
from auditor.results.updates.captured import CAPTURED, CapturedDocument


def captured_document(a: AttackedCapture) -> dict[str, Any]:
    """Return everything about one attack on a captured update as plain values."""
    context, reference = a.captured.context, a.view.knowledge.reference
    made = CapturedDocument(
        **values_of(Attempt, a.made),
        schema=CAPTURED,
        tool=tool_block(a.options, a.started, a.seconds),
        model=model_block(context),
        protocol=protocol_block(context),
        attack=AttackBlock(
            name=a.attack.name,
            title=a.attack.title,
            source=a.attack.source,
            configuration=repr(a.attack),
            closed_form=a.attack.closed_form,
            reference=a.reference,
            reference_frames=0 if reference is None else len(reference),
            reference_notes=(),
        ),
        update=a.captured.block,
        knowledge=KnowledgeBlock(**values_of(KnowledgeBlock, a.view.knowledge)),
        residual=a.residual,
        unrelated=a.unrelated,
        proof=a.proof,
        not_claimed=NOT_CLAIMED,
        environment=environment_block(context.device),
    )
    return document(made)
