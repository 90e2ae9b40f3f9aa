"""All tubelets of a video transformer at once, from its position embedding's gradient."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from auditor.attack.certificate import residual, solved
from auditor.attack.interface import Attack, skipped
from auditor.attack.pixel_map import PixelMap, pixel_map
from auditor.records import Budget, Clip, Clock, Label, Layer, Reconstruction, Skipped, View

# Singular values of the token gradients below float32's relative rounding (6e-8) of the largest are noise; ten
# times that leaves a margin for the sums inside one gradient.
_RANK_CUT = 6e-7
_SUM_AGREES = 1e-2
# float32 gradients of a solution reproduce themselves to about 1e-6; nothing better is to be found after that.
_SOLVED = 1e-4


@dataclass(frozen=True)
class _Embedding:
    """A patch embedding found in the model: tokens N, features D, and how its rows map to pixels."""

    layer: Layer
    weight: str
    tokens: int
    features: int
    pixels: PixelMap
    kernel: tuple[int, ...] | None


@dataclass(frozen=True, kw_only=True)
class PatchEmbeddingInversion(Attack):
    """Solve the patch embedding's weight gradient for the patches.

    The gradient of a learned position embedding is the gradient at each token, Delta (N x D), when nothing lies
    between the two. The embedding's weight gradient is dW = sum_n delta_n x_n^T = Delta^T X, so
    X = lstsq(Delta^T, dW), exact when Delta has rank N <= D. One clip only. Derived for this project; APRIL
    (Lu et al. 2021, arXiv 2112.14087) uses the same gradient behind a first attention layer.
    """

    name: str = "patch-embedding"
    title: str = "Closed form: patch embedding with learned position embedding"
    source: str = (
        "derived here: dW = Delta^T X with Delta the position embedding's gradient; cf. APRIL (arXiv 2112.14087)"
    )
    closed_form: bool = True

    def obstacle(self, view: View) -> str | None:
        """Need one clip and a learned position embedding among what is sent."""
        if view.update.batch != 1:
            return f"{view.update.batch} clips share the update; the closed form needs one"
        if not any(_could_be_positions(view.update.gradients[n]) for n in _added(view)):
            return "no learned position embedding is sent"
        return None

    def invert(self, view: View, budget: Budget, seed: int) -> Reconstruction | Skipped:
        """Try every pair of patch embedding and position embedding; keep the one that reproduces the update best."""
        clock = Clock(budget.seconds)
        labels = view.knowledge.labels or (0,)
        best: tuple[float, Clip, str, int] | None = None
        reasons: list[str] = []
        for embedding in _embeddings(view):
            for name, delta in _token_gradients(view, embedding):
                if embedding.tokens > embedding.features:
                    reasons.append(f"{embedding.tokens} tokens exceed {embedding.features} features")
                    continue
                for dw in _weight_gradients(view, embedding):
                    patches, rank = _solve(delta, dw)
                    clip = embedding.pixels.to_clip(_as_input(patches, embedding))
                    off = residual(view, clip[None], labels)
                    if best is None or off < best[0]:
                        best = (off, clip, f"{embedding.layer.name} with {name}", rank)
                    if off < _SOLVED:
                        return self._solved(best, labels, clock, seed)
        if best is None:
            why = "; ".join(dict.fromkeys(reasons)) or "no patch embedding of pixels pairs with a position embedding"
            return skipped(self, why)
        return self._solved(best, labels, clock, seed)

    def _solved(
        self, best: tuple[float, Clip, str, int], labels: tuple[Label, ...], clock: Clock, seed: int
    ) -> Reconstruction:
        off, clip, where, rank = best
        return solved(
            self.name,
            clip[None],
            labels,
            {"update_residual": off, "rank": float(rank)},
            seconds=clock.used,
            seed=seed,
            note=f"solved {where}",
        )


def _added(view: View) -> list[str]:
    """Names of what is sent and is neither a weight that multiplies nor a norm: position embeddings are among them."""
    multiplied = {
        n
        for layer in view.target.layers
        if layer.kind in ("linear", "norm", "recurrent") or layer.kind.startswith("conv")
        for n in layer.parameters
    }
    return [n for n in view.update.gradients if n not in multiplied]


def _could_be_positions(gradient: Tensor) -> bool:
    """Tokens by features (or features by grid), with no more than a leading 1 before them."""
    core = [d for d in gradient.shape if d > 1]
    return len(core) >= 2 and gradient.ndim >= 2 and (gradient.shape[0] == 1 or gradient.ndim == 2)


def _embeddings(view: View) -> Iterator[_Embedding]:
    """Yield operations with a weight that read the clip's own pixels, a whole patch per token."""
    device = next(iter(view.update.gradients.values())).device
    shape = view.knowledge.clip_shape
    for layer in view.target.layers:
        weight = next((n for n in layer.parameters if n in view.update.gradients and _is_weight(view, n)), None)
        if weight is None or not (layer.kind.startswith("conv") or layer.kind == "linear"):
            continue
        if not _might_pair(view, layer):
            continue
        pixels = pixel_map(view.target.model, weight, shape, device)
        if pixels is None:
            continue
        with torch.no_grad():
            seen, made = view.target.model.inputs_of(weight, torch.zeros(1, *shape, device=device))
        gradient = view.update.gradients[weight]
        if layer.kind == "linear":
            yield _Embedding(layer, weight, seen[..., 0].numel(), made.shape[-1], pixels, None)
            continue
        kernel = tuple(gradient.shape[2:])
        tiles = all(o == i // k for i, o, k in zip(seen.shape[2:], made.shape[2:], kernel, strict=True))
        if tiles and gradient.shape[1] == seen.shape[1]:
            yield _Embedding(layer, weight, made[0, 0].numel(), made.shape[1], pixels, kernel)


def _might_pair(view: View, layer: Layer) -> bool:
    """Compare shapes before anything is run: some position gradient must have this layer's number of features."""
    if not layer.output_shape:
        return True
    features = layer.output_shape[-1] if layer.kind == "linear" else layer.output_shape[1]
    sent = view.update.gradients
    return any(features in sent[n].shape for n in _added(view) if _could_be_positions(sent[n]))


def _is_weight(view: View, name: str) -> bool:
    return view.update.gradients[name].ndim >= 2


def _token_gradients(view: View, embedding: _Embedding) -> Iterator[tuple[str, Tensor]]:
    """Yield candidates for Delta (N x D), the class token's row dropped, that agree with the embedding's bias."""
    bias = next(
        (
            view.update.gradients[n].double()
            for n in embedding.layer.parameters
            if n in view.update.gradients and view.update.gradients[n].shape == (embedding.features,)
        ),
        None,
    )
    for name in _added(view):
        gradient = view.update.gradients[name]
        if not _could_be_positions(gradient):
            continue
        for rows in _as_rows(gradient.double(), embedding.features):
            spare = len(rows) - embedding.tokens
            if spare not in (0, 1):
                continue
            for delta in (rows,) if spare == 0 else (rows[1:], rows[:-1]):
                if bias is None or float((delta.sum(0) - bias).norm()) <= _SUM_AGREES * float(bias.norm()):
                    yield name, delta


def _as_rows(gradient: Tensor, features: int) -> Iterator[Tensor]:
    """Yield the gradient as (tokens, features), features last or first."""
    core = gradient[0] if gradient.shape[0] == 1 and gradient.ndim > 2 else gradient
    if core.shape[-1] == features:
        yield core.reshape(-1, features)
    if core.shape[0] == features and core.ndim >= 2:
        yield core.reshape(features, -1).T


def _weight_gradients(view: View, embedding: _Embedding) -> Iterator[Tensor]:
    """Yield dW as (D, P); both ways round where a square matrix does not tell which way it is stored."""
    dw = view.update.gradients[embedding.weight].double()
    if embedding.kernel is not None:
        yield dw.reshape(embedding.features, -1)
        return
    if dw.shape[0] == embedding.features:
        yield dw
    if dw.shape[1] == embedding.features:
        yield dw.T


def _solve(delta: Tensor, dw: Tensor) -> tuple[Tensor, int]:
    """Least-squares solution X (N x P) of Delta^T X = dW in float64, and Delta's numerical rank."""
    u, s, vh = torch.linalg.svd(delta.T, full_matrices=False)
    kept = s > _RANK_CUT * s[0]
    inverse = torch.where(kept, 1.0 / torch.where(kept, s, 1.0), 0.0)
    return vh.T @ (inverse[:, None] * (u.T @ dw)), int(kept.sum())


def _as_input(patches: Tensor, embedding: _Embedding) -> Tensor:
    """Lay patches (N x P) out as the operation's input."""
    if embedding.kernel is None:
        return patches
    shape = embedding.pixels.shape
    channels, space = shape[1], shape[2:]
    kernel = embedding.kernel
    grid = tuple(s // k for s, k in zip(space, kernel, strict=True))
    n = len(grid)
    folded = patches.reshape(*grid, channels, *kernel)
    order = [n] + [axis for i in range(n) for axis in (i, n + 1 + i)]
    tiled = folded.permute(order).reshape(channels, *(g * k for g, k in zip(grid, kernel, strict=True)))
    full = torch.full(shape[1:], float("nan"), dtype=patches.dtype, device=patches.device)
    full[(slice(None), *(slice(0, g * k) for g, k in zip(grid, kernel, strict=True)))] = tiled
    offset = embedding.pixels.offset.reshape(shape[1:])
    scale = embedding.pixels.scale.reshape(shape[1:])
    return torch.where(torch.isnan(full), offset + 0.5 * scale, full)[None]
