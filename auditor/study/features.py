"""What an update gives away of the features that enter the head, and whether these point to the clip by themselves."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from auditor.attack import recover_features
from auditor.records import Clips, SplitModel, View, record
from auditor.results.study import StudyFeatures

Kind = Literal["frames", "mean", "span", "hidden"]


@record
class Recovered:
    """Features as an attacker has them.

    `value` is (frame, feature) for `frames`, (feature,) for their `mean` and for the `hidden` input of a later layer,
    and an orthonormal basis (rank, feature) for a `span`. `said` tells how, in words.
    """

    kind: Kind
    value: Float[Tensor, "..."]
    said: str


def recovered(view: View, seconds: float) -> Recovered | None:
    """Return the most that the update tells of what a frozen extractor sends into the head; None where nothing."""
    found = recover_features(view, seconds)
    if found is None:
        return None
    kind, value, said = found
    width = _features(view, torch.zeros(1, *view.knowledge.clip_shape)).shape
    if kind == "input" and value.numel() == width.numel():
        return Recovered(kind="frames", value=value.reshape(width), said=said)
    if kind == "input":
        return Recovered(kind="mean" if value.numel() == width[-1] else "hidden", value=value, said=said)
    return Recovered(kind="frames" if kind == "frames" else "span", value=value, said=said)


def clip_features(view: View, clips: Clips) -> Float[Tensor, "clip frame feature"]:
    """Return what the public extractor gives for every clip, in float64, on the CPU."""
    return torch.stack([_features(view, clip[None]) for clip in clips])


def _features(view: View, clip: Clips) -> Tensor:
    model = view.target.model
    assert isinstance(model, SplitModel)
    device = next(iter(view.update.gradients.values())).device
    with torch.no_grad():
        rows = model.features(clip.to(device))
    assert rows is not None
    return rows.detach().double().cpu().reshape(len(rows), -1)


def error(found: Recovered, truth: Float[Tensor, "frame feature"]) -> float | None:
    """Return the relative error against the true features; for a span, the largest distance of a true frame to it."""
    if found.kind == "hidden":
        return None
    if found.kind == "span":
        return float(_off_span(found.value, truth).max())
    true = truth if found.kind == "frames" else truth.mean(0)
    return float((found.value.cpu().double() - true).norm() / true.norm().clamp_min(1e-300))


def rank_by_features(
    found: Recovered, truth: Float[Tensor, "frame feature"], gallery: Float[Tensor, "clip frame feature"]
) -> int | None:
    """Return the rank of the true clip among the gallery by distance to what was recovered; ties count against it."""
    if found.kind == "hidden":
        return None
    distances = [_distance(found, candidate) for candidate in (truth, *gallery)]
    return 1 + sum(d <= distances[0] for d in distances[1:])


def _distance(found: Recovered, candidate: Float[Tensor, "frame feature"]) -> float:
    if found.kind == "span":
        return float(_off_span(found.value, candidate).mean())
    own = candidate if found.kind == "frames" else candidate.mean(0)
    return float((found.value.cpu().double() - own).norm())


def _off_span(basis: Tensor, rows: Tensor) -> Tensor:
    basis = basis.cpu().double()
    off = rows - (rows @ basis.T) @ basis
    return off.norm(dim=1) / rows.norm(dim=1).clamp_min(1e-300)


def features_block(found: Recovered | None, truth: Tensor, gallery: Tensor, *, own: bool) -> StudyFeatures:
    """Return what was recovered and where it points; the error is of an own update only."""
    if found is None:
        return StudyFeatures(recovered="nothing", said="", error=None, rank=None, gallery=len(gallery) + 1)
    return StudyFeatures(
        recovered=found.kind,
        said=found.said,
        error=error(found, truth) if own else None,
        rank=rank_by_features(found, truth, gallery),
        gallery=len(gallery) + 1,
    )
