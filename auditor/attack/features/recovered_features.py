"""The most that an update of one clip tells of what enters a head, without a picture."""

from typing import Literal

from torch import Tensor

from auditor.attack.closed_form.mean_input import recover_mean_input
from auditor.attack.features.frame_span import FrameSpan, frame_spans
from auditor.attack.features.head_features import EXPLAINS, recover_head_features, shared_features
from auditor.attack.matching.gradient_matching import labels_of
from auditor.records import View


def recover_features(view: View, seconds: float) -> tuple[Literal["frames", "input", "span"], Tensor, str] | None:
    """Return features by the strongest way that applies, and how they were found; None where nothing is told.

    `frames`: (frame, feature), solved from the whole head (`head_features`), in order. `input`: the exact input of the
    first Linear layer seen by one sample, or its mean over rows. `span`: an orthonormal basis (rank, feature) of the
    frames' features, whatever the batch.
    """
    span = shared_features(view)
    if isinstance(span, FrameSpan):
        found = recover_head_features(view, span, labels_of(view), seconds)
        if found.residual < EXPLAINS and found.ordered:
            return "frames", found.value, f"features of {span.rows} frames, explaining the head to {found.residual:.0e}"
    first = next(frame_spans(view), None)
    if first is not None and first.rank > 1:
        return "span", first.basis, f"the span of the frames' features, rank {first.rank} of {first.rows}"
    for layer in view.target.layers if view.update.batch == 1 else ():
        linear = recover_mean_input(view, layer) if layer.kind == "linear" else None
        if linear is not None:
            rows = "" if (layer.rows or 1) == 1 else f", averaged over {layer.rows} rows"
            return "input", linear.value, f"the exact input of {layer.name}{rows}"
    return None
