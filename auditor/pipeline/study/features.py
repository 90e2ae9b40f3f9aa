"""How exactly an update gives away what a frozen extractor sends into the head: the auditor's comparison."""

from typing import Any

import torch
from torch import Tensor

from auditor.attack.frame_span import frame_features, frame_spans
from auditor.attack.mean_input import recover_mean_input
from auditor.pipeline.blocks import number
from auditor.records import Clips, View


def features_block(view: View, truth: Clips) -> dict[str, Any]:
    """Return what of the head's input the update determines, and the largest relative error against the truth.

    `recovered` is all (the exact input of a Linear layer), mean (its mean over frames), span (of the frames' features)
    or nothing. For a span the error is the largest distance of a true frame to it.
    """
    for layer in view.target.layers:
        if layer.kind != "linear" or not any(n in view.update.gradients for n in layer.parameters):
            continue
        found = recover_mean_input(view, layer)
        if found is None:
            continue
        seen = _entering(view, found.weight, truth).reshape(-1, found.value.numel()).double()
        error = float((found.value.cpu() - seen.mean(0)).norm() / seen.mean(0).norm().clamp_min(1e-300))
        return _block("all" if len(seen) == 1 else "mean", layer.name, found.value.numel(), error)
    for span in frame_spans(view):
        distance = span.distance(frame_features(view, span.weight, truth[0]))
        return _block(
            f"span of rank {span.rank} of {span.rows}", span.layer.name, span.basis.shape[1], float(distance.max())
        )
    return {"recovered": "nothing", "layer": "", "size": 0, "error": None}


def _entering(view: View, weight: str, clips: Clips) -> Tensor:
    with torch.no_grad():
        return view.target.model.inputs_of(weight, clips)[0].detach().cpu()


def _block(what: str, layer: str, size: int, error: float) -> dict[str, Any]:
    return {"recovered": what, "layer": layer, "size": size, "error": number(error)}
