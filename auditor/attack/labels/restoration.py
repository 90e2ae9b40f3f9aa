"""Label restoration: which classes were in the batch, read off the last layer's gradient."""

from dataclasses import replace

import torch

from auditor.attack.base import IN_CLIENT
from auditor.attack.labels.cross_entropy_rules import among, idlg_bias, idlg_rows, ilrg, llg, rlg
from auditor.attack.labels.head import Head, blind, find_head
from auditor.attack.labels.rules_per_output import separate_labels
from auditor.records import LabelGuess, Skipped, View, signs_kept


def restore_labels(view: View) -> LabelGuess | Skipped:
    """Restore the labels of a batch, by the best rule that the loss and the update allow.

    Cross-entropy, one clip: iDLG (Zhao et al. 2020, arXiv 2001.02610), exact. Several: iLRG (Ma et al., ICLR 2023,
    eq. 11-13) where the head's weight and bias are sent and its equations hold; else LLG* (Wainakh et al. 2021, arXiv
    2105.09369), among the classes that RLG (Dang et al. 2021, arXiv 2111.00556) leaves possible. `certain` is set only
    where the update itself proves the answer: see each rule, and `_proven_by_one_gradient` for local steps. Binary
    cross-entropy and the squared error: see `separate_labels`. Under defences that keep signs iDLG alone holds.
    """
    if not all(bool(torch.isfinite(g).all()) for g in view.update.gradients.values()):
        return _no_rule("the update holds values that are not finite")
    unread = [d for d in view.knowledge.defences if d.effect not in IN_CLIENT]
    if unread:
        return _by_signs(view) or _no_rule(f"no rule knows the defence {', '.join(map(str, unread))}")
    if view.knowledge.loss in ("bce", "mse"):
        found = separate_labels(view)
        return _no_rule(found) if isinstance(found, str) else found
    if view.knowledge.loss != "cross-entropy":
        return _no_rule("no rule is known for a loss of the user's own")
    head = find_head(view)
    guess = _of_one(view, head) if head.batch == 1 else _of_batch(view, head)
    return guess or _no_rule("the update holds no gradient of a classification head that a rule could read")


def _by_signs(view: View) -> LabelGuess | None:
    """Read one clip's label off the sign of the head's bias, which many defences leave as it is.

    The bias is the head's by the public model, not by the update: under a defence its entries need not sum to zero.
    """
    classes, sent = view.knowledge.classes, view.update.gradients
    if view.update.batch > 1 or view.knowledge.loss != "cross-entropy" or not signs_kept(view.knowledge.defences):
        return None
    last = next((layer for layer in reversed(view.target.layers) if layer.parameters), None)
    biases = [n for n in last.parameters if n in sent and sent[n].numel() == classes] if last is not None else []
    guess = idlg_bias(sent[biases[-1]].double().reshape(-1)) if biases else None
    return guess if guess is not None and guess.certain else None


def _of_one(view: View, head: Head) -> LabelGuess | None:
    if head.bias is not None:
        return idlg_bias(head.bias)
    return _proven_by_one_gradient(view, idlg_rows(head.weight)) if head.weight is not None else None


def _of_batch(view: View, head: Head) -> LabelGuess | None:
    """Take the first rule that proves its answer, else the one that has the most to go on."""
    if head.bias is None and head.weight is None:
        return None
    solved = None if view.target.output.frames else _proven_by_one_gradient(view, ilrg(view, head))
    if solved is not None and solved.certain:
        return solved
    public = blind(view, head)
    counted = llg(head, public)
    if head.bias is None:
        counted = _proven_by_one_gradient(view, counted)
    if counted is not None and counted.certain:
        return counted
    possible = None if view.target.output.frames else rlg(head)
    restricted = _proven_by_one_gradient(view, among(head, possible, public)) if possible else None
    if restricted is not None and restricted.certain:
        return restricted
    return solved or restricted or counted


def _proven_by_one_gradient(view: View, guess: LabelGuess | None) -> LabelGuess | None:
    """Take certainty back where the update adds up several local steps.

    Features and probabilities change from step to step, so equations between them hold only roughly. Signs of the
    bias gradient are proofs all the same: an entry is negative at a step only if a clip of that class is there, and
    steps add up with positive weights.
    """
    if guess is None or view.one_gradient:
        return guess
    return replace(guess, certain=False)


def _no_rule(reason: str) -> Skipped:
    return Skipped(stage="invert", what="label restoration", because="not-applicable", reason=reason)
