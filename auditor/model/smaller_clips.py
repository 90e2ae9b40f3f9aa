"""The same network and weights on smaller clips, where it takes them."""

from collections.abc import Iterator
from dataclasses import replace

import torch

from auditor.errors import AuditError
from auditor.model.checks.describe import sample_clips
from auditor.model.forward_pass import observe
from auditor.model.layers import find_layers
from auditor.model.onnx.tracing import NodeError
from auditor.model.video import VideoModel
from auditor.records import InputSpec, Target

# Sides are divided by these in turn; smaller ones show little more than a blur, and shorter clips no motion.
_FACTORS = (2, 4)
_LEAST_SIDE, _LEAST_FRAMES = 16, 4
_REFUSALS = (AuditError, NodeError, RuntimeError, ValueError, TypeError, LookupError, AssertionError)


def on_smaller_clips(target: Target) -> Iterator[Target]:
    """Yield the target reading smaller clips, largest first; nothing where the network wants its own size.

    Parameters are shared. Of a two-part model nothing is yielded: its head may be of the extractor's own size.
    """
    spec, model = target.input, target.model
    if not isinstance(model, VideoModel) or target.parts:
        return
    frames = spec.frames // 2 if spec.frames // 2 >= _LEAST_FRAMES else spec.frames
    for factor in _FACTORS:
        height, width = spec.height // factor, spec.width // factor
        if min(height, width) < _LEAST_SIDE:
            return
        smaller = replace(spec, frames=frames, height=height, width=width, origin="scaled down")
        found = _reading(target, model, smaller)
        if found is not None:
            yield found


def _reading(target: Target, model: VideoModel, spec: InputSpec) -> Target | None:
    clip = sample_clips(spec, 1, 0).to(next(iter(target.parameters.values())).device)
    try:
        with torch.no_grad():
            logits = model(clip)
        if logits.shape[0] != 1 or logits.shape[-1] != target.classes or not bool(torch.isfinite(logits).all()):
            return None
        layers = find_layers(model.network, target.parameters, observe(model, clip, slopes=False).readings)
    except _REFUSALS:
        return None  # a position embedding, a head on all positions, or sizes that an export fixed
    return replace(target, input=spec, layers=layers)
