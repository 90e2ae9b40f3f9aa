"""What the clips of a captured update were trained as: read off the update, or told by whoever knows."""

from auditor.attack import restore_labels
from auditor.errors import UsageError
from auditor.pipeline.context import Context
from auditor.pipeline.single_attack.named import label_of
from auditor.records import Label, LabelGuess, View, record


@record
class Labelled:
    """Labels of the batch, where they come from, and whether they are proven or told."""

    labels: tuple[Label, ...]
    origin: str
    certain: bool


def labels_behind(text: str | None, view: View, context: Context) -> Labelled:
    """Return the labels that were given with --label, else those that a rule reads off the update.

    Raises
    ------
    UsageError
        A label is no class of the model, or there is no rule and none was given.
    """
    if text is not None:
        return Labelled(labels=_given(text, context), origin="given with --label", certain=True)
    found = restore_labels(view)
    if isinstance(found, LabelGuess):
        guess = "" if found.certain else ", a guess"
        return Labelled(
            labels=found.labels, origin=f"restored from the update by {found.rule}{guess}", certain=found.certain
        )
    raise UsageError(f"no label can be restored from this update: {found.reason}", "give --label")


def _given(text: str, context: Context) -> tuple[Label, ...]:
    batch, classes, kind = context.protocol.batch, context.target.classes, context.client.loss.kind
    parts = [text] if batch == 1 else text.split(",")
    if kind == "classes" and batch > 1:
        raise UsageError("--label cannot say which classes each of several clips shows", "leave --label out")
    if len(parts) != batch:
        raise UsageError(
            f"--label gives {len(parts)} label{'s' if len(parts) > 1 else ''}, and the update is of {batch} clips",
            "give as many, separated by commas",
        )
    return tuple(label_of(part, "", classes, kind) for part in parts)
