"""The net of the catalogue of architectures that is most like a model, by kinds of layers and what its head reads."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from auditor.pipeline.documents.architecture_rules import catalogue
from auditor.records import Layer, Target
from auditor.results.asides import MostLikeBlock
from auditor.score import Grade

_CONVOLUTIONS = ("conv1d", "conv2d", "conv3d")
# What updates give away hangs on these; which other layers lie between them, far less (docs/architectures.md).
_KINDS = (*_CONVOLUTIONS, "recurrent", "position-embedding")

# Two pathways that are joined have more numbers than the channels of one, and less than this times as many.
_SEVERAL = 2


def structure(layers: Sequence[Layer]) -> dict[str, Any]:
    """Return which kinds of layers a net has, `tokens` for weights that several rows of a clip meet, and its head.

    The head reads `all positions` where the first Linear behind the last convolution reads as many numbers as several
    positions of that have, `pixels` where nothing stands before it, else an `average`, or one token.
    """
    found = {layer.kind for layer in layers if layer.kind in _KINDS}
    linear = [layer for layer in layers if layer.kind == "linear" and layer.input_shape]
    if any((layer.rows or 1) > 1 for layer in linear):
        found.add("tokens")
    walked = [layer for layer in layers if layer.kind in _CONVOLUTIONS and layer.output_shape]
    last = max((layer.index for layer in walked), default=-1)
    channels = walked[-1].output_shape[1] if walked else 0
    behind = next((layer for layer in layers if layer.index > last and layer.kind in ("linear", "recurrent")), None)
    head = "none"
    if behind is not None and behind.input_shape:
        wide = behind.input_shape[-1] >= _SEVERAL * channels
        head = "pixels" if not behind.behind_weights else "all positions" if wide else "average"
    return {"kinds": sorted(found), "head": head}


def most_like(target: Target, clips: int) -> MostLikeBlock | None:
    """Return the net that shares kinds and head, and what attacks found there; None where no net does.

    Of the cases with fresh weights, that with as many clips an update is told, or else with one.
    """
    data = catalogue()
    own = structure(target.layers)
    alike = [name for name, other in data["structures"].items() if other == own]
    fresh = [case for case in data["cases"] if case["net"] in alike and case["weights"] == "fresh"]
    told = [case for case in fresh if case["batch"] == clips] or [case for case in fresh if case["batch"] == 1]
    if not told:
        return None
    size = math.log(max(1, sum(p.numel() for p in target.parameters.values())))
    near: Mapping[str, Any] = min(told, key=lambda case: abs(math.log(case["parameters"]) - size))
    return MostLikeBlock(
        net=near["net"],
        family=near["family"],
        nets=len(alike),
        parameters=near["parameters"],
        clips=near["batch"],
        attack=near["attack"],
        psnr=near["best"],
        grade=Grade[near["grade"]],
        date=data["date"],
    )
