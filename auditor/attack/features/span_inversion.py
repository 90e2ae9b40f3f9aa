"""Invert the public extractor towards the span of the frames' features, where no more than that is known."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from auditor.attack.base import ANY_SIZE, skipped
from auditor.attack.features.dead_units import OPEN, OpenUnits
from auditor.attack.features.frame_span import FrameSpan, frame_spans
from auditor.attack.matching.gradient_matching import GradientMatching
from auditor.records import Budget, Clips, Defence, Label, Reconstruction, Skipped, View
from auditor.solvers.descent import alone

# Added to the diagonal of the frames' Gram matrix, relative to its mean: frames that are all but equal stay apart
# down to a difference of 1e-6 of their norm.
_APART = 1e-12


@dataclass(frozen=True, kw_only=True)
class SpanInversion(GradientMatching):
    """min over x of mean_t ||f_t - P f_t||^2 / ||f_t||^2 + 1 - tr(P Q) / rank + priors(x), f_t = phi(x_t).

    P projects on the span that the shared weight's gradient gives (`frame_span`), Q on the span of the candidate's own
    features: the first term asks that every frame lies in the span, and is left out where the span is not complete; the
    second that the frames together cover it, the squared chordal distance of subspaces (Edelman, Arias & Smith 1998,
    section 4.3). Any number of clips; neither brightness of features nor order of frames is told by a span.
    """

    name: str = "span-inversion"
    title: str = "Inversion towards the span of the frames' features"
    source: str = "derived for this project; subspace distance by Edelman, Arias & Smith 1998, section 4.3"

    def meets(self, defence: Defence) -> bool:
        """Meet those that keep directions of gradients: features are read off exact ones."""
        return defence.effect in ANY_SIZE

    def obstacle(self, view: View) -> str | None:
        """Need a frozen extractor and a weight after it that all frames share, and a reference frame for R1."""
        if (said := super().obstacle(view)) is not None:
            return said
        return None if _span(view) is not None else "no frozen extractor is followed by a weight that all frames share"

    def invert(self, view: View, budget: Budget, seed: int) -> Reconstruction | Skipped:
        """Descend the distance to the first span."""
        span = _span(view)
        if span is None:
            return skipped(self, "no frozen extractor is followed by a weight that all frames share")
        distance = _distance(view, span)
        made = self.search(lambda configuration: alone(distance), (self.own_configuration,), view, budget, seed)
        if isinstance(made, Skipped):
            return made
        note = f"towards the {span.rank} directions that {span.weight} tells of {span.rows} frames' features"
        return replace(made, notes=(*made.notes, note), certificate={"span_noise": span.noise})

    def measure(self, view: View, clips: Clips, labels: tuple[Label, ...]) -> float:
        """Return the distance of the spans; infinite where there is none."""
        span = _span(view)
        return math.inf if span is None else float(_distance(view, span)(clips).detach())


def _span(view: View) -> FrameSpan | None:
    """Return the first span of features that no trained layer lies before: there the extractor is public and fixed."""
    if not view.one_gradient:
        return None
    for span in frame_spans(view):
        earlier = (n for layer in view.target.layers if layer.index < span.layer.index for n in layer.parameters)
        if not any(n in view.update.gradients for n in earlier):
            return span
    return None


def _distance(view: View, span: FrameSpan) -> Callable[[Clips], Tensor]:
    model, basis = view.target.model, span.basis

    def distance(x: Clips) -> Tensor:
        with OpenUnits(OPEN):
            rows = model.inputs_of(span.weight, x)[0].reshape(-1, basis.shape[1]).double()
        norm = rows.norm(dim=1, keepdim=True).clamp_min(1e-30)
        rows = rows / norm
        inside = rows @ basis.T
        gram = rows @ rows.T
        gram = gram + _APART * torch.eye(len(rows), device=rows.device, dtype=rows.dtype)
        covered = 1.0 - (inside * torch.linalg.solve(gram, inside)).sum() / span.rank
        off = (rows - inside @ basis).square().sum(1).mean() if span.complete else 0.0
        return (covered + off).float()

    return distance
