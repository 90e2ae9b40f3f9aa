"""A whole batch of clips from a Linear layer on pixels behind which a ReLU stands."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from auditor.attack.base import ANY_SIZE, Attack, skipped
from auditor.attack.certificate import residual, solved
from auditor.attack.closed_form.pixel_map import pixel_map
from auditor.attack.closed_form.relu_batch import CERTAIN, BatchInputs, recover_relu_batch
from auditor.records import Budget, Clips, Clock, Effect, Label, Layer, Reconstruction, Skipped, View

# Sampling finds a batch of eight in seconds or not at all; a larger budget goes to other attacks.
_LONGEST = 60.0
# Batches that the paper reports as exact: about 25; beyond, 2^(B-1) samples are out of reach.
_MOST_CLIPS = 25
# Every label is tried on every clip where labels are not known.
_MOST_CLASSES = 50


@dataclass(frozen=True, kw_only=True)
class SpearInversion(Attack):
    """Factor the weight's gradient by the sparsity of ReLU, and put the rows back in place as clips."""

    knows: ClassVar[frozenset[Effect]] = ANY_SIZE | {"precision"}
    name: str = "spear"
    title: str = "Closed form: batch of clips at a Linear layer with ReLU"
    source: str = "SPEAR (Dimitrov et al. 2024, arXiv 2403.03945), with directions sharpened by reweighting"
    closed_form: bool = True

    def obstacle(self, view: View) -> str | None:
        """Need several clips, and a Linear layer that sees each as one row."""
        batch = view.update.batch
        if batch == 1:
            return "one clip needs no separation; see the closed form of a Linear layer's input"
        if batch > _MOST_CLIPS:
            return f"{batch} clips share the update; sparse factorisation is exact up to about {_MOST_CLIPS}"
        if not any(layer.kind == "linear" and layer.rows == 1 for layer in view.target.layers):
            return "no Linear layer sees a clip as a single row"
        return None

    def invert(self, view: View, budget: Budget, seed: int) -> Reconstruction | Skipped:
        """Try every one-row Linear in forward order; the first that sees pixels gives the clips."""
        clock = Clock(min(budget.seconds, _LONGEST))
        reasons: list[str] = []
        for layer in view.target.layers:
            if layer.kind != "linear" or layer.rows != 1:
                continue
            found = recover_batch(view, layer, seed, max(0.0, clock.left))
            if isinstance(found, str):
                reasons.append(f"{layer.name}: {found}")
                continue
            weight, rows = found
            pixels = pixel_map(view.target.model, weight, view.knowledge.clip_shape, rows.inputs.device)
            if pixels is not None:
                clips = torch.stack([pixels.to_clip(row) for row in rows.inputs])
                return self._checked(view, layer, clips, rows, clock, seed)
            if rows.agreement >= CERTAIN:
                size = f"{len(rows.inputs)} rows of {rows.inputs.shape[1]} features"
                # What comes later reads features as well.
                return skipped(self, f"recovers the inputs of {layer.name} exactly ({size}), but these are not pixels")
            reasons.append(f"{layer.name}: the factors found disagree with a ReLU behind it")
        return skipped(self, "; ".join(reasons[:2]) or "no one-row Linear layer with weight and bias is sent")

    def _checked(
        self, view: View, layer: Layer, clips: Clips, rows: BatchInputs, clock: Clock, seed: int
    ) -> Reconstruction:
        labels = labels_by_slope(view, layer, clips, rows.slopes)
        off = residual(view, clips, labels)
        return solved(
            self.name,
            clips,
            labels,
            {
                "update_residual": off,
                "relu_agreement": rows.agreement,
                "factorisation_residual": rows.residual,
            },
            seconds=clock.used,
            seed=seed,
            note=f"read off {layer.name}",
        )


def recover_batch(view: View, layer: Layer, seed: int, seconds: float) -> tuple[str, BatchInputs] | str:
    """Return the weight's name and every row that a one-row Linear saw, or why they cannot be told apart."""
    weight, bias = weight_and_bias(view, layer)
    if weight is None or bias is None:
        return "weight and bias are not both sent"
    dw, db = view.update.gradients[weight], view.update.gradients[bias].reshape(-1)
    if not bool(torch.isfinite(dw).all() and torch.isfinite(db).all()):
        return "its gradient is not finite"
    if not (bool(dw.any()) and bool(db.any())):
        return "its gradient is zero"
    parameters = view.target.parameters
    w, b = parameters[weight].detach(), parameters[bias].detach().reshape(-1)
    if dw.shape[0] != len(db) or (dw.shape[0] == dw.shape[1] and not _in_rows(dw, db)):
        dw, w = dw.T, w.T
    found = recover_relu_batch(
        dw, db, w, b, behind=_behind(view, layer, len(db)), batch=view.update.batch, seed=seed, seconds=seconds
    )
    return found if isinstance(found, str) else (weight, found)


def _behind(view: View, layer: Layer, units: int) -> Tensor | None:
    """Return the weight (class, unit) of the next Linear layer, if it reads as many values as the layer has units."""
    following = (near for near in view.target.layers if near.index > layer.index and near.kind == "linear")
    parameters = view.target.parameters
    for name in next((near.parameters for near in following), ()):
        weight = parameters[name].detach()
        if weight.ndim == 2 and units in weight.shape:
            return weight if weight.shape[1] == units else weight.T
    return None


def weight_and_bias(view: View, layer: Layer) -> tuple[str | None, str | None]:
    """Return weight and bias; exporters that split Gemm into MatMul and Add put the bias in the next layer."""
    following = [near for near in view.target.layers if 0 <= near.index - layer.index <= 1]
    sent = view.update.gradients
    weight = next((n for n in layer.parameters if n in sent and sent[n].ndim == 2), None)
    if weight is None:
        return None, None
    vectors = [n for near in following for n in near.parameters if n in sent and sent[n].squeeze().ndim == 1]
    return weight, next((n for n in vectors if sent[n].numel() in sent[weight].shape), None)


def _in_rows(dw: Tensor, db: Tensor) -> bool:
    """Tell whether db lies in the column space of dW, as D' 1 lies in that of D' X."""
    u, s, _ = torch.linalg.svd(dw.double(), full_matrices=False)
    u = u[:, s > 1e-6 * s[0]]
    off = db.double() - u @ (u.T @ db.double())
    return float(off.norm()) < 1e-3 * float(db.double().norm())


def labels_by_slope(view: View, layer: Layer, clips: Clips, slopes: Tensor) -> tuple[Label, ...]:
    """Give each clip the label whose simulated gradient of the layer's bias is nearest to the clip's own slope.

    Labels that are known are shared out, each as often as it is known.
    """
    known = view.knowledge.labels
    if known is None and (view.knowledge.loss != "cross-entropy" or view.knowledge.classes > _MOST_CLASSES):
        return (0,) * len(clips)
    candidates: tuple[Label, ...] = tuple(dict.fromkeys(known)) if known else tuple(range(view.knowledge.classes))
    off = torch.stack([(own_slopes(view, layer, clips, (c,) * len(clips)) - slopes).norm(dim=1) for c in candidates], 1)
    if known is None:
        return tuple(candidates[i] for i in off.argmin(dim=1).tolist())
    shared = off[:, [candidates.index(label) for label in known]].nan_to_num(1e300, 1e300)
    return tuple(known[i] for i in linear_sum_assignment(shared.cpu().numpy())[1])


def own_slopes(view: View, layer: Layer, clips: Clips, labels: tuple[Label, ...]) -> Float[Tensor, "clip unit"]:
    """Return what each clip adds to the gradient of the layer's bias, in float64."""
    _, bias = weight_and_bias(view, layer)
    assert bias is not None
    client = view.client.under(replace(view.client.protocol, algorithm="FedSGD", batch=1, sent=(bias,)))
    alone = [client(clip[None], client.targets((label,)))[bias] for clip, label in zip(clips, labels, strict=True)]
    return torch.stack(alone).flatten(1).double() / len(clips)
