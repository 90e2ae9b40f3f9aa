"""Which values of pixels a network was written for, told by what it does to them before its first layer."""

from dataclasses import replace

import torch
from torch import Tensor

from auditor.model.forward_pass import first_input
from auditor.model.onnx.tracing import NodeError
from auditor.model.reading_options import LoadOptions
from auditor.model.video import VideoModel
from auditor.records import InputSpec, record
from auditor.text import printable

BYTES = (0.0, 255.0)
UNIT = (0.0, 1.0)
MOST_CHANNELS = 4
# What brings bytes into [0, 1] or [-1, 1]: a division by 255 or 256, 127.5 or 128, within a tenth.
FACTORS = (1 / 255, 2 / 255)
CLOSE = 0.1
# Means of pictures in bytes lie near the middle; those of pictures in [0, 1] are below one.
MEANS = (50.0, 220.0)
# With a factor below this one, pixels in [0, 1] would hardly differ for the first layer.
SMALL_FACTOR = 0.05
PROBES = (0.0, 1.0, 0.5)
SAMPLED = 1024


@record
class PixelFactors:
    """What the first layer reads of a pixel x: factor (x - zero), by channel or for all."""

    factors: tuple[float, ...]
    zeros: tuple[float, ...]


def with_range(
    model: VideoModel, options: LoadOptions, stated: bool = False, integers: str = ""
) -> tuple[VideoModel, list[str]]:
    """Return the model with the value range that its forward pass implies, and what is to be told about it.

    Parameters
    ----------
    stated
        Whether the source states a range or a normalisation; what differs from the usual counts as stated.
    integers
        The integer type that a file declares for its input; empty for floats.
    """
    spec = model.spec
    if integers and options.range is None:
        note = f"The file reads pixels as {printable(integers, 20)}: they enter with values 0 to 255."
        return _entering(model, replace(spec, value_range=BYTES)), [note]
    found = pixel_factors(model)
    if found is None:
        return model, []
    what = f"Before its first layer the network turns a pixel x into {told_of(found)}"
    told = (options.range, options.mean, options.std) != (None, None, None)
    if stated or told or (spec.mean, spec.std, spec.value_range) != ((0.0,), (1.0,), UNIT):
        if _implies_bytes(found) and spec.value_range == UNIT:
            return model, [f"{what}, which fits values 0 to 255; as it was stated, they are 0 to 1 here."]
        return model, []
    if _implies_bytes(found):
        note = f"{what}: it was written for values 0 to 255, and clips enter so. Give --range if clients' differ."
        return _entering(model, replace(spec, value_range=BYTES)), [note]
    if max(map(abs, found.factors)) < SMALL_FACTOR:
        return model, [f"{what}: values 0 to 1, as taken here, would hardly differ. Give --range, e.g. --range 0,255."]
    return model, []


def pixel_factors(model: VideoModel) -> PixelFactors | None:
    """Return what a network does to pixels before its first layer; None where that is no factor and shift, or fails."""
    spec = replace(model.spec, value_range=UNIT, mean=(0.0,), std=(1.0,))
    plain = _entering(model, spec)
    read = []
    for value in PROBES:
        try:
            x = first_input(plain, None, torch.full((1, *spec.clip_shape), value))
        except (NodeError, RuntimeError, ValueError, TypeError, LookupError, AssertionError, AttributeError):
            return None  # whoever runs the network next says what is wrong with it
        if x is None or not x.is_floating_point():
            return None
        read.append(x)
    at_zero, at_one, between = read
    if at_zero.shape != at_one.shape or not bool(torch.isfinite(at_one).all()):
        return None
    factor = at_one - at_zero
    off = (between - (at_zero + at_one) / 2).abs().max()
    moved = factor != 0  # padding has none
    if not bool(off <= 1e-4 * (factor.abs().max() + at_zero.abs().max())) or float(moved.float().mean()) < 0.5:
        return None
    factor, at_zero = factor[moved], at_zero[moved]
    pairs = {(_rounded(f), _rounded(-b / f)) for f, b in _different(factor, at_zero)}
    if len(pairs) > MOST_CHANNELS:
        return None
    factors, zeros = zip(*sorted(pairs), strict=True)
    return PixelFactors(factors=factors, zeros=zeros)


def assumed_range(before: InputSpec, after: InputSpec) -> tuple[str, ...]:
    """Return in a few words which values of pixels were taken from the network's own constants; none if none were."""
    low, high = after.value_range
    return () if before.value_range == after.value_range else (f"pixels from {low:g} to {high:g}",)


def told_of(found: PixelFactors) -> str:
    """Return the formula of a pixel x; empty where pixels enter the first layer as they are."""
    if (found.factors, found.zeros) == ((1.0,), (0.0,)):
        return ""
    return f"{_shown(found.factors)} (x - {_shown(found.zeros)})" if any(found.zeros) else f"{_shown(found.factors)} x"


def _entering(model: VideoModel, spec: InputSpec) -> VideoModel:
    other = VideoModel(model.network, spec, model.substitutes, *model.choices)
    other.class_axis = model.class_axis
    return other


def _different(factor: Tensor, shift: Tensor) -> list[tuple[float, float]]:
    rows = torch.stack([factor.flatten(), shift.flatten()], 1).double()
    chosen = torch.randint(len(rows), (SAMPLED,), generator=torch.Generator().manual_seed(0))
    return list({(f, b) for f, b in rows[chosen].tolist()})


def _rounded(value: float) -> float:
    return float(f"{value:.3g}") + 0.0  # never minus zero


def _implies_bytes(found: PixelFactors) -> bool:
    if all(MEANS[0] <= zero <= MEANS[1] for zero in found.zeros):
        return True
    close = [any(abs(factor / wanted - 1) <= CLOSE for wanted in FACTORS) for factor in found.factors]
    return all(close) and all(abs(zero) < 1 for zero in found.zeros)


def _shown(values: tuple[float, ...]) -> str:
    texts = list(dict.fromkeys(f"{value:g}" for value in values))
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
