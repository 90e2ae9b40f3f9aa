"""The input of a Linear layer seen by one sample, exactly, from its own gradient."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from auditor.attack.base import ANY_SIZE, Attack, skipped
from auditor.attack.certificate import residual, solved
from auditor.attack.closed_form.pixel_map import pixel_map
from auditor.records import Budget, Clock, Effect, Layer, Reconstruction, Skipped, View

# A gradient of one row is of rank one to the precision that it was computed in: bfloat16 keeps 8 bits.
_ONE_ROW = 2.0**-8


@dataclass(frozen=True)
class LinearInput:
    """The recovered input of a Linear layer and how well it explains the layer's gradient.

    `rank_one_residual` is ||dW - db x^T|| / ||dW||: about 1e-6 when the layer saw exactly one row, 2e-3 in bfloat16.
    """

    layer: Layer
    weight: str
    value: Tensor
    rank_one_residual: float


def recover_linear_input(view: View, layer: Layer) -> LinearInput | None:
    """Solve dW = db x^T for x (Phong et al. 2017; Geiping et al. 2020, prop. 3.1), least squares in float64.

    Returns None when the layer's weight or bias was not sent, the bias gradient vanishes, or the weight gradient is
    not of rank one (more than one row was seen).
    """
    sent = [n for n in layer.parameters if n in view.update.gradients]
    matrices = [n for n in sent if view.update.gradients[n].ndim == 2]
    if len(matrices) != 1:
        return None
    dw = view.update.gradients[matrices[0]].double()
    db = bias_gradient(view, layer, dw)
    if db is None or float(db.norm()) < 1e-30:
        return None
    if dw.shape[0] != len(db) or (dw.shape[0] == dw.shape[1] and not _rank_one(dw, db)):
        dw = dw.T
    x = (dw.T @ db) / db.square().sum()
    off = float((dw - torch.outer(db, x)).norm() / dw.norm().clamp(min=1e-300))
    return LinearInput(layer=layer, weight=matrices[0], value=x, rank_one_residual=off) if off < _ONE_ROW else None


def input_moves(view: View, layer: Layer) -> bool:
    """Tell whether the layer's input changed during local training, because something before it was trained.

    Then dW = sum_s db_s x_s^T over the steps s, and the closed form gives an average of the inputs x_s, each weighted
    by <db_s, db>: close to the input at the public weights where weights moved little, but not exact.
    """
    earlier = (n for other in view.target.layers if other.index < layer.index for n in other.parameters)
    return not view.one_gradient and any(n in view.update.gradients for n in earlier)


def _rank_one(dw: Tensor, db: Tensor) -> bool:
    x = (dw.T @ db) / db.square().sum()
    return float((dw - torch.outer(db, x)).norm()) < _ONE_ROW * float(dw.norm())


def bias_gradient(view: View, layer: Layer, dw: Tensor) -> Tensor | None:
    """Return the gradient of the layer's own bias, or of the next layer's: exporters split Gemm into MatMul and Add."""
    following = [near for near in view.target.layers if 0 < near.index - layer.index <= 2]
    for owner in (layer, *following):
        for name in owner.parameters:
            g = view.update.gradients.get(name)
            if g is not None and g.squeeze().ndim == 1 and g.numel() in dw.shape and g.numel() > 1:
                return g.double().reshape(-1)
    return None


@dataclass(frozen=True, kw_only=True)
class LinearInversion(Attack):
    """Read the clip off the first Linear layer, where that layer sees pixels and the client sent one clip."""

    knows: ClassVar[frozenset[Effect]] = ANY_SIZE | {"precision"}
    name: str = "linear-input"
    title: str = "Closed form: input of a Linear layer"
    source: str = "Phong et al. 2017; Geiping et al. 2020 (arXiv 2003.14053), proposition 3.1"
    closed_form: bool = True

    def obstacle(self, view: View) -> str | None:
        """Need one clip, and a Linear layer that sees it as one row."""
        if view.update.batch != 1:
            return f"{view.update.batch} clips share the update; the closed form needs one"
        if not any(layer.kind == "linear" and layer.rows == 1 for layer in view.target.layers):
            return "no Linear layer sees a clip as a single row"
        return None

    def invert(self, view: View, budget: Budget, seed: int) -> Reconstruction | Skipped:
        """Try every one-row Linear in forward order; the first that sees pixels gives the clip."""
        clock = Clock(budget.seconds)
        labels = view.knowledge.labels or (0,)
        features: list[str] = []
        for layer in view.target.layers:
            if layer.kind != "linear" or layer.rows != 1:
                continue
            found = recover_linear_input(view, layer)
            if found is None:
                continue
            device = next(iter(view.update.gradients.values())).device
            shape = view.knowledge.clip_shape
            pixels = None if layer.behind_weights else pixel_map(view.target.model, found.weight, shape, device)
            if pixels is None:
                how = "roughly" if input_moves(view, layer) else "exactly"
                features.append(f"{layer.name} {how} ({found.value.numel()} features)")
                continue
            clips = pixels.to_clip(found.value)[None]
            off = residual(view, clips, labels)
            return solved(
                self.name,
                clips,
                labels,
                {
                    "update_residual": off,
                    "rank_one_residual": found.rank_one_residual,
                    "pixel_coverage": pixels.coverage,
                },
                seconds=clock.used,
                seed=seed,
                note=f"read off {layer.name}",
            )
        if features:
            return skipped(
                self,
                f"recovers the input of {', '.join(features[:3])}, but that is features, not pixels",
                "see the feature inversion attack",
            )
        return skipped(self, "no one-row Linear layer with weight and bias is sent")
