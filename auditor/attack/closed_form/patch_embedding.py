"""All tubelets of a video transformer at once, from its position embedding's gradient."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from auditor.attack.base import ANY_SIZE, Attack, skipped
from auditor.attack.certificate import residual, solved
from auditor.attack.closed_form.patch_equation import Patches, solve_patches
from auditor.attack.closed_form.patch_grid import PatchGrid, patch_grid
from auditor.attack.closed_form.pixel_map import pixel_map
from auditor.attack.closed_form.position_gradients import Positions, could_be_positions, position_gradients
from auditor.records import Budget, Clip, Clock, Effect, Label, Layer, Reconstruction, Skipped, View

# float32 gradients of a solution reproduce themselves to about 1e-6; nothing better is to be found after that.
_SOLVED = 1e-4


@dataclass(frozen=True)
class _Embedding:
    """A patch embedding found in the model: tokens N, features D, and how its rows map to pixels."""

    layer: Layer
    weight: str
    features: int
    grid: PatchGrid

    @property
    def tokens(self) -> int:
        return len(self.grid.pixel)


@dataclass(frozen=True)
class _Solution:
    """A solution, and how far it is from reproducing what was sent (infinite where that was not asked)."""

    clip: Clip
    patches: Patches
    where: str
    off: float

    @property
    def key(self) -> tuple[float, float]:
        return (self.off, self.proof["equation_residual"])

    @property
    def proof(self) -> dict[str, float]:
        tokens, off = len(self.patches.values), self.patches.off
        return {
            "rank": float(self.patches.rank),
            "expected_psnr": -10.0 * math.log10(max(self.patches.error, 1e-20)),
            "equation_residual": off if off is not None and self.patches.rank == tokens else math.inf,
        }


@dataclass(frozen=True, kw_only=True)
class PatchEmbeddingInversion(Attack):
    """Solve the patch embedding's weight gradient for the patches.

    The gradient of a learned position embedding is the gradient at each token, Delta (N x D), when nothing lies
    between the two. The embedding's weight gradient is dW = sum_n delta_n x_n^T = Delta^T X, so
    X = lstsq(Delta^T, dW), exact when Delta has rank N <= D, else the solution of least norm. Both are linear in the
    gradients, so sums over local steps (SGD, momentum) on one clip obey the same equation; Adam breaks it.

    One clip only: of several, Delta is the sum over clips, and X some mixture of them. Where frames share a position
    embedding, its gradient is the sum over frames; then X_(t,s) = a_s + b_t is solved for, a still background and a
    colour of each frame, which is exact for no moving clip and says so. Derived for this project; APRIL (Lu et al.
    2021, arXiv 2112.14087) uses the same gradient behind a first attention layer.
    """

    knows: ClassVar[frozenset[Effect]] = ANY_SIZE | {"precision"}
    name: str = "patch-embedding"
    title: str = "Closed form: patch embedding with learned position embedding"
    source: str = (
        "derived here: dW = Delta^T X with Delta the position embedding's gradient; cf. APRIL (arXiv 2112.14087)"
    )
    closed_form: bool = True

    def obstacle(self, view: View) -> str | None:
        """Need one clip and a learned position embedding among what is sent."""
        if view.update.batch != 1:
            return (
                f"{view.update.batch} clips share the update; their position gradients are added up, which mixes them"
            )
        if not any(could_be_positions(view.update.gradients[n]) for n in _added(view)):
            return "no learned position embedding is sent"
        if not all(bool(torch.isfinite(g).all()) for g in view.update.gradients.values()):
            return "the update is not finite"
        return None

    def invert(self, view: View, budget: Budget, seed: int) -> Reconstruction | Skipped:
        """Try every pair of patch embedding and position embedding; keep the one that reproduces the update best."""
        clock = Clock(budget.seconds)
        labels = view.knowledge.labels or (0,)
        best: _Solution | None = None
        for found in _solutions(view, labels):
            if best is None or found.key < best.key:
                best = found
            if found.off < _SOLVED or clock.left < 0.0:
                break
        if best is None:
            return skipped(self, "no patch embedding of pixels pairs with a position embedding")
        # Steps whose settings are not known cannot be repeated. The equation holds all the same, and is proof where it
        # determines every token and has equations to spare.
        by_equation = view.scale is None
        proof = best.proof if by_equation else {"update_residual": best.off, **best.proof}
        return solved(
            self.name,
            best.clip[None],
            labels,
            proof,
            seconds=clock.used,
            seed=seed,
            note=f"solved {best.where}",
            by="equation_residual" if by_equation else "update_residual",
        )


def _solutions(view: View, labels: tuple[Label, ...]) -> Iterator[_Solution]:
    """Yield the solution of every pairing that fits, those with a position for every token first."""
    for embedding in _embeddings(view):
        bias = _bias(view, embedding)
        for positions in position_gradients(
            {n: view.update.gradients[n] for n in _added(view)}, embedding.tokens, embedding.features, bias
        ):
            for dw in _weight_gradients(view, embedding):
                grid = embedding.grid
                patches = solve_patches(
                    positions.rows, (dw - torch.outer(positions.total, grid.centre)) / grid.scale, grid
                )
                clip = grid.to_clip(positions.spread(patches.values))
                yield _Solution(
                    clip=clip,
                    patches=patches,
                    where=_where(embedding, positions, patches),
                    off=residual(view, clip[None], labels) if view.scale is not None else math.inf,
                )


def _where(embedding: _Embedding, positions: Positions, patches: Patches) -> str:
    count, tokens = len(positions.rows), embedding.tokens
    told = "" if patches.rank == tokens else f": {patches.rank} equations for {tokens} tokens"
    if count != tokens:
        told = f", which frames share: {patches.rank} equations for {tokens} tokens, so motion is averaged out"
    return f"{embedding.layer.name} with {positions.name}{told}"


def _added(view: View) -> list[str]:
    """Names of what is sent and is neither a weight that multiplies nor a norm: position embeddings are among them."""
    multiplied = {
        n
        for layer in view.target.layers
        if layer.kind in ("linear", "norm", "recurrent") or layer.kind.startswith("conv")
        for n in layer.parameters
    }
    return [n for n in view.update.gradients if n not in multiplied and bool(view.update.gradients[n].any())]


def _embeddings(view: View) -> Iterator[_Embedding]:
    """Yield operations with a weight that read the clip's own pixels, a whole patch per token."""
    device = next(iter(view.update.gradients.values())).device
    shape = view.knowledge.clip_shape
    for layer in view.target.layers:
        weight = next((n for n in layer.parameters if n in view.update.gradients and _is_weight(view, n)), None)
        if weight is None or not (layer.kind.startswith("conv") or layer.kind == "linear"):
            continue
        if layer.behind_weights or not _might_pair(view, layer):
            continue
        pixels = pixel_map(view.target.model, weight, shape, device)
        if pixels is None:
            continue
        with torch.no_grad():
            seen, made = view.target.model.inputs_of(weight, torch.zeros(1, *shape, device=device))
        gradient = view.update.gradients[weight]
        kernel = None if layer.kind == "linear" else tuple(gradient.shape[2:])
        if kernel is not None:
            tiles = all(o == i // k for i, o, k in zip(seen.shape[2:], made.shape[2:], kernel, strict=True))
            if not tiles or gradient.shape[1] != seen.shape[1]:
                continue
        grid = patch_grid(pixels, kernel)
        if grid is not None:
            yield _Embedding(layer, weight, made.shape[-1 if kernel is None else 1], grid)


def _might_pair(view: View, layer: Layer) -> bool:
    """Compare shapes before anything is run: some position gradient must have this layer's number of features."""
    if not layer.output_shape:
        return True
    features = layer.output_shape[-1] if layer.kind == "linear" else layer.output_shape[1]
    sent = view.update.gradients
    return any(features in sent[n].shape for n in _added(view) if could_be_positions(sent[n]))


def _is_weight(view: View, name: str) -> bool:
    return view.update.gradients[name].ndim >= 2


def _bias(view: View, embedding: _Embedding) -> Tensor | None:
    sent = view.update.gradients
    own = (sent[n] for n in embedding.layer.parameters if n in sent and sent[n].shape == (embedding.features,))
    return next((g.double() for g in own), None)


def _weight_gradients(view: View, embedding: _Embedding) -> Iterator[Tensor]:
    """Yield dW as (D, P); both ways round where a square matrix does not tell which way it is stored."""
    dw = view.update.gradients[embedding.weight].double()
    if dw.ndim > 2:
        yield dw.reshape(embedding.features, -1)
        return
    if dw.shape[0] == embedding.features:
        yield dw
    if dw.shape[1] == embedding.features:
        yield dw.T
