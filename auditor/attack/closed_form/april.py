"""All tokens of a video transformer at once, from its first attention, where no skip connection leads around it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from auditor.attack.base import Attack, skipped
from auditor.attack.certificate import residual, solved
from auditor.attack.closed_form.patch_equation import Patches, solve_patches
from auditor.attack.closed_form.patch_grid import PatchGrid, patch_grid
from auditor.attack.closed_form.pixel_map import pixel_map
from auditor.attack.closed_form.position_gradients import could_be_positions
from auditor.records import Budget, Clips, Clock, Label, Outcome, Reconstruction, Skipped, View

# Singular values below this share of the largest are float32 rounding.
_RANK = 1e-6
# A rehearsal on a clip of the attacker's own obeys the equations up to float32 rounding, or not at all.
_HOLDS = 1e-3
_GREY = 0.5


@dataclass(frozen=True)
class _Attention:
    """The first attention: what reads the tokens Z, how the weights are stored, and how Z is made of patches.

    Attributes
    ----------
    grey
        Z of a grey clip.
    rows
        The rows of Z that patches make; the others are class tokens.
    patch
        Row p is what a unit of pixel p of a patch adds to its token.
    """

    weights: tuple[str, ...]
    transposed: bool
    grey: Float[Tensor, "row feature"]
    rows: Int[Tensor, " token"]
    grid: PatchGrid
    patch: Float[Tensor, "pixel feature"]

    def product(self, view: View, gradients: dict[str, Tensor]) -> Float[Tensor, "feature feature"]:
        """Return sum_m W_m' dW_m over query, key and value, in float64."""
        terms = []
        for name in self.weights:
            w, dw = view.target.parameters[name].detach().double(), gradients[name].double()
            terms.append(w @ dw.T if self.transposed else w.T @ dw)
        return sum(terms[1:], terms[0])


@dataclass(frozen=True, kw_only=True)
class April(Attack):
    """Solve the first attention's weight gradients for the tokens that enter it.

    Z (N x D) enters the queries, keys and values Z W_m' alone. With Delta (N x D) the gradient at Z,
    Delta = sum_m dY_m W_m, and dW_m = dY_m' Z, so Delta' Z = sum_m W_m' dW_m. A learned position embedding that is
    added to Z has Delta as its gradient. Z less the public positions is the patch embedding, whose public weight is
    inverted; it may be frozen itself. Exact where Delta has rank N (so N <= D) beyond the rounding of its float32, and
    where a patch has no more than D pixels. In nets that hardly attend yet, Delta's singular values fall off fast.

    The structure is narrow: Z must enter nothing but the attention. A skip connection adds a gradient of its own to
    Delta, and a norm keeps the two gradients apart, so ViTs as usually built are out of reach: the closed form for
    patch embeddings is for those. Whether the net is so built is rehearsed on a clip of the attacker's own.
    """

    name: str = "april"
    title: str = "Closed form: tokens that enter an attention without norm or skip connection"
    source: str = "APRIL (Lu et al. 2021, arXiv 2112.14087), closed form; rehearsed on a clip of the attacker's own"
    closed_form: bool = True

    def obstacle(self, view: View) -> str | None:
        """Need one clip, one gradient, and a learned position embedding that is sent, with no norm behind it.

        A skip connection around the attention only shows in the rehearsal.
        """
        if view.update.batch != 1:
            return f"{view.update.batch} clips share the update; their position gradients are added up"
        if not view.one_gradient:
            return "the attention's weights moved during local training, so their gradients are of several nets"
        positions = list(_positions(view))
        if not positions:
            return "no learned position embedding is sent"
        if not all(bool(torch.isfinite(g).all()) for g in view.update.gradients.values()):
            return "the update is not finite"
        if all(_first_behind(view, name) == "norm" for name in positions):
            return "a norm stands between the position embedding and the first attention"
        return None

    def invert(self, view: View, budget: Budget, seed: int) -> Reconstruction | Skipped:
        """Rehearse every pair of position embedding and attention; solve the first for which the equation holds."""
        clock = Clock(budget.seconds)
        labels = view.knowledge.labels or (0,)
        attentions = list(_attentions(view))
        if not attentions:
            return skipped(self, "what enters the attention is not a patch embedding plus positions; a norm between?")
        for attention in attentions:
            for name in _positions(view):
                if not _holds(view, attention, name, labels):
                    continue
                patches = _solve(view, attention, name)
                clips = attention.grid.to_clip(patches.values)[None]
                rank, tokens = patches.rank, len(attention.rows)
                seen, pixels = int(torch.linalg.matrix_rank(attention.patch, rtol=_RANK)), len(attention.patch)
                told = "" if rank == tokens else f": {rank} equations for {tokens} tokens"
                lost = "" if seen == pixels else f", {seen} features for the {pixels} pixels of a patch"
                made = solved(
                    self.name,
                    clips,
                    labels,
                    {
                        "update_residual": residual(view, clips, labels),
                        "token_rank": rank / tokens,
                        "pixel_rank": seen / pixels,
                    },
                    seconds=clock.used,
                    seed=seed,
                    note=f"solved {', '.join(attention.weights)} with {name}{told}{lost}",
                )
                # The update hardly depends on what it does not determine, so its residual is no proof of that.
                return replace(made, outcome=Outcome.UNVERIFIED) if told or lost else made
        return skipped(
            self,
            "the position embedding's gradient is not that of the attention alone: a skip connection leads around it, "
            "or not all of its weights are sent",
        )


def _positions(view: View) -> Iterator[str]:
    """Yield position embeddings that are sent with a gradient."""
    kinds = {name: layer.kind for layer in view.target.layers for name in layer.parameters}
    for name, gradient in view.update.gradients.items():
        plain = kinds[name] in ("position-embedding", "embedding", "other")
        if plain and could_be_positions(gradient) and bool(gradient.any()):
            yield name


def _first_behind(view: View, name: str) -> str:
    """Return the kind of the first norm or linear layer behind a parameter."""
    here = next(layer.index for layer in view.target.layers if name in layer.parameters)
    return next((n.kind for n in view.target.layers if n.index > here and n.kind in ("norm", "linear")), "")


def _attentions(view: View) -> Iterator[_Attention]:
    """Yield the linear layers that read the patch embedding plus constants, those with one input together."""
    shape = view.knowledge.clip_shape
    device = next(iter(view.update.gradients.values())).device
    trial = torch.rand(1, *shape, generator=torch.Generator().manual_seed(0)).to(device)
    parameters = view.target.parameters
    for grid, patch in _embeddings(view):
        values = trial.reshape(-1).double()[grid.pixel] - _GREY
        expected = values @ patch
        groups: list[tuple[list[str], Tensor, Tensor]] = []
        for layer in view.target.layers:
            weight = next((n for n in layer.parameters if parameters[n].ndim == 2), None)
            if layer.kind != "linear" or weight is None or patch.shape[1] not in parameters[weight].shape:
                continue
            seen = _tokens(view, weight, trial, patch.shape[1])
            same = next((g for g in groups if seen is not None and torch.equal(g[1], seen)), None)
            if same is not None:
                same[0].append(weight)
                continue
            grey = _tokens(view, weight, torch.full_like(trial, _GREY), patch.shape[1])
            if seen is not None and grey is not None and seen.shape == grey.shape:
                rows = (seen - grey).abs().amax(dim=1).gt(_HOLDS * expected.abs().max()).nonzero()[:, 0]
                if len(rows) == len(expected) and _near((seen - grey)[rows], expected):
                    groups.append(([weight], seen, grey))
        for weights, seen, grey in groups:
            rows = (seen - grey).abs().amax(dim=1).gt(_HOLDS * expected.abs().max()).nonzero()[:, 0]
            if all(name in view.update.gradients for name in weights):
                for transposed in (False, True):
                    if all(parameters[n].shape[0 if transposed else 1] == patch.shape[1] for n in weights):
                        yield _Attention(tuple(weights), transposed, grey, rows, grid, patch)


def _embeddings(view: View) -> Iterator[tuple[PatchGrid, Float[Tensor, "pixel feature"]]]:
    """Yield patch embeddings, sent or frozen: how their rows map to pixels, and what each pixel adds to a token."""
    shape = view.knowledge.clip_shape
    device = next(iter(view.update.gradients.values())).device
    for layer in view.target.layers:
        weight = next((n for n in layer.parameters if view.target.parameters[n].ndim >= 2), None)
        if weight is None or not (layer.kind.startswith("conv") or layer.kind == "linear"):
            continue
        pixels = pixel_map(view.target.model, weight, shape, device)
        if pixels is None:
            continue
        with torch.no_grad():
            seen, made = view.target.model.inputs_of(weight, torch.zeros(1, *shape, device=device))
        w = view.target.parameters[weight].detach().double()
        kernel = None if layer.kind == "linear" else tuple(w.shape[2:])
        if kernel is not None:
            tiles = all(o == i // k for i, o, k in zip(seen.shape[2:], made.shape[2:], kernel, strict=True))
            if not tiles or w.shape[1] != seen.shape[1]:
                continue
        grid = patch_grid(pixels, kernel)
        if grid is None:
            continue
        matrix = w.flatten(1)
        for patch in (matrix.T, matrix):
            if patch.shape[0] == len(grid.scale):
                yield grid, grid.scale[:, None] * patch
                if matrix.shape[0] != matrix.shape[1] or kernel is not None:
                    break


def _tokens(view: View, weight: str, clips: Clips, features: int) -> Float[Tensor, "row feature"] | None:
    """Return what the operation that reads `weight` is given, one row a token; None where it is no such thing."""
    try:
        with torch.no_grad():
            seen, _ = view.target.model.inputs_of(weight, clips)
    except LookupError:
        return None
    return seen.detach().double().reshape(-1, features) if seen.shape[-1] == features else None


def _near(ours: Tensor, theirs: Tensor) -> bool:
    return ours.shape == theirs.shape and float((ours - theirs).norm()) <= _HOLDS * float(theirs.norm())


def _delta(gradient: Tensor, attention: _Attention) -> Float[Tensor, "row feature"] | None:
    """Return a position embedding's gradient as (row, feature), if it has a row for every row of Z."""
    rows, features = attention.grey.shape
    core = gradient.double().squeeze(0) if gradient.ndim > 2 else gradient.double()
    if core.numel() != rows * features:
        return None
    return core.reshape(rows, features) if core.shape[-1] == features else core.reshape(features, rows).T


def _holds(view: View, attention: _Attention, positions: str, labels: tuple[Label, ...]) -> bool:
    """Rehearse Delta' Z = sum W' dW on a clip of the attacker's own, where Z is known."""
    sent = (positions, *attention.weights)
    client = view.client.under(replace(view.client.protocol, algorithm="FedSGD", batch=1, sent=sent))
    device = view.update.gradients[positions].device
    trial = torch.rand(1, *view.knowledge.clip_shape, generator=torch.Generator().manual_seed(1)).to(device)
    gradients = {n: g.detach() for n, g in client(trial, client.targets(labels)).items()}
    delta = _delta(gradients[positions], attention)
    tokens = _tokens(view, attention.weights[0], trial, attention.grey.shape[1])
    return delta is not None and tokens is not None and _near(attention.product(view, gradients), delta.T @ tokens)


def _solve(view: View, attention: _Attention, positions: str) -> Patches:
    """Solve Delta' (Z - Z_grey) = sum W' dW - Delta' Z_grey for the patches; what is not determined stays grey."""
    gradients = dict(view.update.gradients)
    delta = _delta(gradients[positions], attention)
    assert delta is not None
    rest = attention.product(view, gradients) - delta.T @ attention.grey
    return solve_patches(delta[attention.rows], rest @ torch.linalg.pinv(attention.patch, rtol=_RANK), attention.grid)
