"""What a recursion asks of an update before it begins."""

import torch

from auditor.records import View


def no_single_gradient(view: View, batches: bool = False) -> str | None:
    """Say in one clause why an update is not the finite gradient of one clip without unknown masks; None if it is.

    With `batches` it may be that of several clips whose labels are known.
    """
    clips = view.update.batch
    if clips != 1 and not batches:
        return f"{clips} clips share the update; the recursion needs one"
    if clips != 1 and (view.knowledge.labels is None or len(view.knowledge.labels) != clips):
        return f"{clips} clips share the update, and their labels are not known"
    if not view.one_gradient:
        return "the update may hold several gradients"
    if view.client.protocol.dropout == "on":
        return "dropout drew masks that the attacker does not know"
    gradients = view.update.gradients.values()
    if not all(bool(torch.isfinite(g).all()) for g in gradients):
        return "the update holds values that are not finite"
    if all(float(g.abs().max()) == 0.0 for g in gradients if g.numel()):
        return "the update is zero"
    return None
