"""Rules that read class labels off a head's gradient under cross-entropy; each is one published idea."""

import torch
from scipy.optimize import linprog
from torch import Tensor

from auditor.attack.labels.head import Blind, Head, by_class
from auditor.records import LabelGuess, View

# Counts that solve iLRG's equations leave float32 rounding, 1e-6 to 1e-3 of the batch; one label read wrongly leaves
# about one.
_EXPLAINS = 0.05
# Singular values of a head's gradient below this share of the largest are float32 rounding.
_ROUNDING = 3e-6
# A separating direction must clear every other class by this share of the largest entry.
_CLEARS = 1e-6
# RLG solves one linear program a class.
_MOST_CLASSES = 1000


def idlg_bias(bias: Tensor) -> LabelGuess:
    """One clip: d loss / d b_c = p_c - [c = y] is negative for the true class alone (iDLG, arXiv 2001.02610)."""
    return LabelGuess(rule="iDLG", labels=(int(bias.argmin()),), certain=int((bias < 0).sum()) == 1)


def idlg_rows(weight: Tensor) -> LabelGuess:
    """One clip, no bias: row c is (p_c - [c = y]) f, so only the true row opposes all others (arXiv 2001.02610)."""
    products = weight @ weight.T
    products.fill_diagonal_(0.0)
    return LabelGuess(rule="iDLG (rows)", labels=(int(products.sum(1).argmin()),), certain=len(weight) > 2)


def ilrg(view: View, head: Head) -> LabelGuess | None:
    """Solve sum_j k_j p^(j)_i - k_i = B db_i and sum_j k_j = B for the counts k (Ma et al., ICLR 2023, eq. 11-13).

    p^(j) is the public head's output on the mean feature of class j, dW_j / db_j. None without weight and bias, and
    where the size of the mean gradient is not known.
    """
    if (
        not head.scaled
        or head.weight is None
        or head.bias is None
        or head.weight_name is None
        or head.bias_name is None
    ):
        return None
    parameters, db = view.target.parameters, head.bias
    w = by_class(parameters[head.weight_name].detach().double(), head.classes)
    b = parameters[head.bias_name].detach().double().reshape(-1)
    embedding = head.weight / torch.where(db.abs() < 1e-12, torch.full_like(db, 1e-12), db)[:, None]
    probability = torch.softmax(embedding @ w.T + b, dim=1)
    one = torch.eye(head.classes, dtype=db.dtype, device=db.device)
    system = torch.cat([probability.T - one, torch.ones_like(db)[None]])
    right = torch.cat([head.batch * db, db.new_full((1,), float(head.batch))])
    counts = (torch.linalg.pinv(system) @ right).clamp(min=0.0)
    labels = rounded(counts, head.batch)
    off = float((system @ torch.bincount(torch.tensor(labels), minlength=head.classes).to(system) - right).norm())
    return LabelGuess(rule="iLRG", labels=labels, certain=off < _EXPLAINS * head.batch)


def llg(head: Head, public: Blind | None) -> LabelGuess | None:
    """Read counts off the signed size of every class's gradient (LLG and LLG*, Wainakh et al. 2021, arXiv 2105.09369).

    With s the gradient of the bias, or the weight's along the mean public feature (the sum of the row where no
    feature is known), s_c = m (p_c - k_c / B) on average, m > 0. With the public model p is its mean output on clips
    of no content, and m follows from the classes that are absent, whose s_c = m p_c; without it p = 1 / C. A negative
    s_c proves that class c is present where features are not negative; B of them settle the batch.
    """
    if head.bias is not None:
        signal, proof = head.bias, True
    elif head.weight is not None:
        direction = None if public is None else public.features
        signal = head.weight.sum(1) if direction is None else head.weight @ direction
        proof = public is not None and public.positive
    else:
        return None
    usual = public.probabilities if public is not None else torch.full_like(signal, 1.0 / head.classes)
    absent = signal > 0
    scale = float(signal[absent].sum() / usual[absent].sum()) if bool(absent.any()) else 0.0
    scale = 1.0 if head.bias is not None and head.scaled else scale
    if scale <= 0.0:
        return None
    negative = signal < -_CLEARS * signal.abs().max()
    counts = (head.batch * (usual - signal / scale)).clamp(min=0.0)
    if proof:
        counts = torch.where(negative, counts.clamp(min=1.0), counts)
    certain = proof and int(negative.sum()) == head.batch
    labels = tuple(int(c) for c in negative.nonzero()) if certain else rounded(counts, head.batch)
    return LabelGuess(rule="LLG" if public is None else "LLG*", labels=labels, certain=certain)


def rlg(head: Head) -> tuple[int, ...] | None:
    """Return every class that the row space allows, a superset of those present.

    RLG (Dang et al. 2021, arXiv 2111.00556): dW = sum_i (p_i - e_(y_i)) f_i', so its column space holds every
    p_i - e_(y_i), which is negative at y_i alone. Class c is possible only if some vector of that space is negative at
    c and positive everywhere else: one linear program a class. None where rank and number of classes leave nothing to
    rule out.
    """
    if head.weight is None or head.classes > _MOST_CLASSES:
        return None
    u, s, _ = torch.linalg.svd(head.weight, full_matrices=False)
    rank = min(head.batch, int((s > _ROUNDING * s[0]).sum()))
    if rank == 0 or rank >= head.classes - 1:
        return None
    basis = u[:, :rank].cpu().numpy()
    clears = _CLEARS * float(abs(basis).max())
    possible = []
    for c in range(head.classes):
        others = [i for i in range(head.classes) if i != c]
        # Maximise t with q_j r >= t for all j != c and |r| <= 1; q_c r < 0 follows, since columns sum to zero.
        a = [[*(-basis[j]), 1.0] for j in others]
        solved = linprog(
            [0.0] * rank + [-1.0], A_ub=a, b_ub=[0.0] * len(others), bounds=[(-1.0, 1.0)] * rank + [(None, None)]
        )
        if solved.status == 0 and -solved.fun > clears:
            possible.append(c)
    return tuple(possible)


def among(head: Head, possible: tuple[int, ...], public: Blind | None) -> LabelGuess | None:
    """Share the batch out among the classes that RLG leaves, by LLG's sizes.

    Certain when one class alone is possible: then every clip has it.
    """
    if not possible:
        return None
    if len(possible) == 1:
        return LabelGuess(rule="RLG", labels=possible * head.batch, certain=True)
    guess = llg(head, public)
    if guess is None:
        return LabelGuess(rule="RLG", labels=(possible * head.batch)[: head.batch], certain=False)
    counted = [c for c in guess.labels if c in possible]
    missing = [c for c in possible if c not in counted]
    labels = tuple(sorted((counted + missing + list(possible) * head.batch)[: head.batch]))
    return LabelGuess(rule=f"RLG with {guess.rule} counts", labels=labels, certain=guess.certain)


def rounded(counts: Tensor, total: int) -> tuple[int, ...]:
    """Round counts to whole labels that add up to `total`, giving what is left to the largest remainders."""
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
