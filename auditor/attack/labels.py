"""Label restoration: which classes were in the batch, read off the last layer's gradient."""

import torch
from torch import Tensor

from auditor.attack.separate_labels import separate_labels
from auditor.records import LabelGuess, Skipped, View


def restore_labels(view: View) -> LabelGuess | Skipped:
    """Restore the labels of a batch, by the best rule that the loss and the update allow.

    Cross-entropy, one clip: iDLG (Zhao et al. 2020, arXiv 2001.02610), exact. Several: iLRG (Ma et al., ICLR 2023, eq.
    11-13). Binary cross-entropy and the squared error: see `separate_labels`.
    """
    if view.knowledge.loss in ("bce", "mse"):
        found = separate_labels(view)
        return _no_rule(found) if isinstance(found, str) else found
    if view.knowledge.loss != "cross-entropy":
        return _no_rule("no rule is known for a loss of the user's own")
    bias = _head_bias(view)
    weight = _head_weight(view)
    if view.update.batch == 1:
        if bias is not None:
            return _idlg_bias(view.update.gradients[bias])
        if weight is not None:
            return _idlg_rows(_by_class(view.update.gradients[weight], view.knowledge.classes))
    elif bias is not None and weight is not None and not view.target.output.frames:
        return _ilrg(view, weight, bias)
    return _no_rule("the update holds no gradient of a classification head that a rule could read")


def _no_rule(reason: str) -> Skipped:
    return Skipped(stage="invert", what="label restoration", because="not-applicable", reason=reason)


def _head_bias(view: View) -> str | None:
    """Find the last vector of one entry per class whose gradient sums to zero, as softmax minus one-hot does."""
    for name in reversed(_in_forward_order(view)):
        g = view.update.gradients[name]
        sums_to_zero = abs(float(g.double().sum())) <= 1e-4 * float(g.abs().sum()) + 1e-12
        if g.numel() == view.knowledge.classes and g.squeeze().ndim == 1 and sums_to_zero and float(g.abs().max()) > 0:
            return name
    return None


def _head_weight(view: View) -> str | None:
    """Find the last matrix with one row (or column) per class."""
    for name in reversed(_in_forward_order(view)):
        g = view.update.gradients[name]
        if g.ndim == 2 and view.knowledge.classes in g.shape and float(g.abs().max()) > 0:
            return name
    return None


def _in_forward_order(view: View) -> list[str]:
    ordered = [n for layer in view.target.layers for n in layer.parameters if n in view.update.gradients]
    return ordered or list(view.update.gradients)


def _by_class(matrix: Tensor, classes: int) -> Tensor:
    return matrix if matrix.shape[0] == classes else matrix.T


def _idlg_bias(gradient: Tensor) -> LabelGuess:
    """Only the true class has a negative entry: d loss / d b_c = p_c - [c = y]."""
    g = gradient.reshape(-1)
    return LabelGuess(rule="iDLG", labels=(int(g.argmin()),), certain=int((g < 0).sum()) == 1)


def _idlg_rows(gradient: Tensor) -> LabelGuess:
    """Without a bias: row c is (p_c - [c = y]) f, so only the true row opposes all the others."""
    g = gradient.double()
    products = g @ g.T
    products.fill_diagonal_(0.0)
    return LabelGuess(rule="iDLG (rows)", labels=(int(products.sum(1).argmin()),), certain=len(g) > 2)


def _ilrg(view: View, weight: str, bias: str) -> LabelGuess:
    """Solve for the class counts k: sum_j k_j p^(j)_i - k_i = B db_i and sum_j k_j = B."""
    classes, batch = view.knowledge.classes, view.update.batch
    parameters = view.target.parameters
    dw = _by_class(view.update.gradients[weight].double(), classes)
    db = view.update.gradients[bias].double().reshape(-1)
    w = _by_class(parameters[weight].detach().double(), classes)
    b = parameters[bias].detach().double().reshape(-1)
    embedding = dw / torch.where(db.abs() < 1e-12, torch.full_like(db, 1e-12), db)[:, None]
    probability = torch.softmax(embedding @ w.T + b, dim=1)
    system = torch.cat(
        [probability.T - torch.eye(classes, dtype=db.dtype, device=db.device), torch.ones_like(db)[None]]
    )
    right = torch.cat([batch * db, torch.tensor([float(batch)], dtype=db.dtype, device=db.device)])
    counts = (torch.linalg.pinv(system) @ right).clamp(min=0.0)
    labels = _round_to_sum(counts, batch)
    error = float((system @ torch.bincount(torch.tensor(labels), minlength=classes).to(system) - right).norm())
    return LabelGuess(rule="iLRG", labels=labels, certain=error < 0.05 * batch)


def _round_to_sum(counts: Tensor, total: int) -> tuple[int, ...]:
    """Round to integers that add up to `total`, giving what is left to the largest remainders."""
    whole = counts.floor()
    remainder = counts - whole
    while int(whole.sum()) > total:
        drop = int(torch.where(whole > 0, remainder, torch.full_like(remainder, 2.0)).argmin())
        whole[drop] -= 1
    for c in remainder.argsort(descending=True)[: total - int(whole.sum())]:
        whole[c] += 1
    while int(whole.sum()) < total:
        whole[int(counts.argmax())] += 1
    return tuple(c for c in range(len(whole)) for _ in range(int(whole[c])))
