"""The span of all frame features, from a weight that every frame goes through."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from auditor.records import Clip, Clips, Layer, View

# Relative rounding of a float32 gradient, for weights that leave no singular value over to measure it by.
_ROUNDING = 3e-7
# A direction is kept when its singular value clears the rounding this many times.
_CLEARS = 10.0
# A frame must have the same features wherever it stands and whatever stands beside it, to float32 rounding.
_SAME = 1e-4


@dataclass(frozen=True)
class FrameSpan:
    """What a weight that is shared over time tells of the features of all frames together.

    Attributes
    ----------
    weight
        Name of the parameter whose gradient was read.
    basis
        Orthonormal rows that span the row space of dW.
    rows
        How many rows the update's clips sent through the weight: B clips of T frames.
    rank
        How many of them the gradient tells apart.
    gap
        Ratio of the last singular value that was kept to the first that was not.
    noise
        Distance that rounding alone gives a frame of the clip, in [0, 1]: rounding over the last singular value kept.
    complete
        True when the rank is the number of rows: then every frame's feature lies in the span. Else some are mixed,
        and a frame of the clip may be far from it.
    """

    layer: Layer
    weight: str
    basis: Float[Tensor, "rank feature"]
    rows: int
    rank: int
    gap: float
    noise: float
    complete: bool

    def distance(self, features: Float[Tensor, "candidate feature"]) -> Float[Tensor, " candidate"]:
        """Return ||f - P f|| / ||f|| in [0, 1], P the projection on the span; a zero feature is at distance 1."""
        f = features.to(self.basis)
        norm = f.norm(dim=1)
        off = (f - (f @ self.basis.T) @ self.basis).norm(dim=1)
        return torch.where(norm > 0, (off / norm.clamp_min(1e-300)).clamp(max=1.0), torch.ones_like(norm))


def frame_spans(view: View) -> Iterator[FrameSpan]:
    """Yield the span that each weight shared over time exposes, in forward order (derived for this project).

    Its gradient is dW = sum_t delta_t f_t', so the row space of dW is spanned by the frames' features f_t, as far as
    the delta_t are independent: exactly all of them when the rank is the number of frames of all clips. A layer whose
    span fills its whole feature space says nothing and is left out, as is one that does not see frame by frame.
    """
    frames = view.knowledge.clip_shape[0]
    for layer in view.target.layers:
        if layer.kind not in ("linear", "recurrent") or layer.rows not in (None, frames):
            continue
        for name in layer.parameters:
            gradient = view.update.gradients.get(name)
            if gradient is None or gradient.ndim != 2 or not _readable(gradient):
                continue
            width = _width(view, name, frames)
            if width is None:
                continue
            span = _span(
                gradient if gradient.shape[1] == width else gradient.T, layer, name, view.update.batch * frames
            )
            if span is not None:
                yield span


def frame_features(view: View, weight: str, frames: Clip) -> Float[Tensor, "candidate feature"]:
    """Return what the public model gives the layer of `FrameSpan.weight` for each candidate frame, in float64.

    Raises
    ------
    LookupError
        No single operation reads the weight.
    """
    count, wanted = view.knowledge.clip_shape[0], len(frames)
    spare = -wanted % count
    clips = torch.cat([frames, frames[-1:].expand(spare, *frames.shape[1:])]).reshape(-1, count, *frames.shape[1:])
    return torch.cat([_rows(view, weight, clip[None]) for clip in clips])[:wanted].double()


def _readable(gradient: Tensor) -> bool:
    return bool(torch.isfinite(gradient).all()) and float(gradient.abs().max()) > 0.0


def _width(view: View, name: str, frames: int) -> int | None:
    """Return the number of features where the operation sees one row a frame, and sees each frame by itself."""
    shape = view.knowledge.clip_shape
    device = view.update.gradients[name].device
    mixed = torch.rand((1, *shape), generator=torch.Generator().manual_seed(0)).to(device)
    if frames < 2:
        return None
    try:
        held, seen, turned = (_rows(view, name, c) for c in (mixed[:, -1:].expand(1, *shape), mixed, mixed.flip(1)))
    except LookupError:
        return None
    if len(seen) != frames or seen.shape[1] not in view.update.gradients[name].shape:
        return None
    scale = float(seen.abs().max())
    off = max(float((a - b).abs().max()) for a, b in ((held, seen[-1:]), (seen, turned.flip(0))))
    return seen.shape[1] if scale > 0.0 and off <= _SAME * scale else None


def _rows(view: View, name: str, clip: Clips) -> Tensor:
    """Return the input of the operation that reads a parameter as (row, feature)."""
    with torch.no_grad():
        seen, _ = view.target.model.inputs_of(name, clip)
    return seen.detach().reshape(-1, seen.shape[-1])


def _span(dw: Tensor, layer: Layer, name: str, rows: int) -> FrameSpan | None:
    """Keep the directions that stand out from rounding, which the singular values beyond the number of rows show."""
    _, s, vh = torch.linalg.svd(dw.double(), full_matrices=False)
    precision = torch.finfo(dw.dtype).eps / torch.finfo(torch.float32).eps
    rounding = float(s[rows]) if rows < len(s) else _ROUNDING * precision * float(s[0])
    rounding = max(rounding, 1e-15 * float(s[0]))
    most = min(rows, len(s))
    rank = int((s[:most] > _CLEARS * rounding).sum())
    if not 0 < rank < dw.shape[1]:
        return None
    return FrameSpan(
        layer=layer,
        weight=name,
        basis=vh[:rank],
        rows=rows,
        rank=rank,
        gap=float(s[rank - 1] / s[rank].clamp_min(1e-300)) if rank < len(s) else float("inf"),
        noise=rounding / float(s[rank - 1]),
        complete=rank == rows,
    )
