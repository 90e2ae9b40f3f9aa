"""Which values of pixels a network was written for, told by what it does to them before its first layer."""

from dataclasses import replace

import torch
from torch import Tensor

from auditor.model.forward_pass import Reading, first_reading
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
# The ends of a range and a value between them; rounding and casts leave whole numbers as they are.
PROBES = (0.0, 1.0, 0.2)
WHOLE_PROBES = (0.0, 255.0, 51.0)
# Of colours mixed to brightness and differences one in three moves with grey; padding does not.
MOVED = 0.25
NORMALISATIONS = 2
SAMPLED = 1024
UNRUNNABLE = (NodeError, RuntimeError, ValueError, TypeError, LookupError, AssertionError, AttributeError)


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
        return model, _questioned(model, stated or options.range is not None)
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
        top = _top_of_range(max(map(abs, found.factors)))
        return model, [
            f"{what}: values 0 to 1, as taken here, would hardly differ. Give --range, e.g. --range 0,{top}."
        ]
    return model, []


def pixel_factors(model: VideoModel) -> PixelFactors | None:
    """Return what a network does to pixels before its first layer; None where that is no factor and shift, or fails.

    Batch normalisation with running statistics belongs to what is done before. What rounds is followed on whole
    numbers, and what differs between neighbours or frames alone by a single pixel.
    """
    plain = _entering(model, replace(model.spec, value_range=UNIT, mean=(0.0,), std=(1.0,)))
    try:
        after = _normalisations(plain)
        read = _of_constants(plain, PROBES, after)
        found = _factors(read, PROBES)
        if found is None and _same(read[0], read[1]):
            found = _of_single_pixel(plain, read[0], after)
        found = found or _factors(_of_constants(plain, WHOLE_PROBES, after), WHOLE_PROBES)
    except UNRUNNABLE:
        return None  # whoever runs the network next says what is wrong with it
    return found


def _normalisations(model: VideoModel) -> int:
    """Return how many batch normalisations stand before the first layer."""
    clip = torch.zeros(1, *model.spec.clip_shape)
    for count in range(NORMALISATIONS):
        reading = first_reading(model, None, clip, after=count)
        if reading is None or not _normalises(reading):
            return count
    return NORMALISATIONS


def _normalises(reading: Reading) -> bool:
    return "batch_norm" in reading.operator


def _of_constants(model: VideoModel, values: tuple[float, ...], after: int) -> list[Tensor | None]:
    return [_read(model, torch.full((1, *model.spec.clip_shape), value), after) for value in values]


def _read(model: VideoModel, clip: Tensor, after: int) -> Tensor | None:
    reading = first_reading(model, None, clip, after=after)
    if reading is None or not reading.input.is_floating_point():
        return None
    return reading.input.detach()


def _same(first: Tensor | None, other: Tensor | None) -> bool:
    return first is not None and other is not None and first.shape == other.shape and bool((first == other).all())


def _factors(read: list[Tensor | None], probes: tuple[float, ...]) -> PixelFactors | None:
    """Return the factors and zeros that explain what was read of clips of one value; None if nothing does."""
    at_zero, at_end, between = read
    if at_zero is None or at_end is None or between is None or at_zero.shape != at_end.shape:
        return None
    if at_zero.shape != between.shape or not bool(torch.isfinite(at_end).all()):
        return None
    _, end, middle = probes
    factor = (at_end - at_zero) / end
    off = (between - at_zero - middle * factor).abs().max() / end
    moved = factor.abs() > 1e-6 * factor.abs().max()
    if not bool(off <= 1e-4 * (factor.abs().max() + at_zero.abs().max() / end)):
        return None
    if float(moved.float().mean()) < MOVED:
        return None
    factor, at_zero = factor[moved], at_zero[moved]
    pairs = {(_rounded(f), _rounded(-b / f)) for f, b in _different(factor, at_zero)}
    if len(pairs) > MOST_CHANNELS:
        return None
    factors, zeros = zip(*sorted(pairs), strict=True)
    return PixelFactors(factors=factors, zeros=zeros)


def _of_single_pixel(model: VideoModel, at_zero: Tensor | None, after: int) -> PixelFactors | None:
    """Return the largest factor that a single pixel enters with, where clips of one value all read as nothing."""
    if at_zero is None or bool(at_zero.any()):
        return None
    clip = torch.zeros(1, *model.spec.clip_shape)
    clip[0, clip.shape[1] // 2, 0, clip.shape[3] // 2, clip.shape[4] // 2] = 1
    lit, dim = _read(model, clip, after), _read(model, clip / 2, after)
    if lit is None or dim is None or not bool(lit.any()) or float((lit - 2 * dim).abs().max()) > 1e-4 * lit.abs().max():
        return None
    return PixelFactors(factors=(_rounded(float(lit.abs().max())),), zeros=(0.0,))


def _questioned(model: VideoModel, stated: bool) -> list[str]:
    """Ask about the range where a curve before the first layer hardly moves in [0, 1] (a gamma of bytes, a log)."""
    if stated or model.spec.value_range != UNIT:
        return []
    try:
        low, unit, large = _of_constants(model, (0.0, 1.0, 255.0), 0)
    except UNRUNNABLE:
        return []
    if low is None or unit is None or large is None or not low.shape == unit.shape == large.shape:
        return []
    moves, whole = (float((x - low).abs().max()) for x in (unit, large))
    if not moves < SMALL_FACTOR <= whole < float("inf"):
        return []
    return [
        f"Before its first layer the network turns pixels 0 and 1 into values {moves:.2g} apart, 0 and 255 into values "
        f"{whole:.2g} apart: values 0 to 1, as taken here, would hardly differ. Give --range, e.g. --range 0,255."
    ]


def assumed_range(before: InputSpec, after: InputSpec) -> tuple[str, ...]:
    """Return in a few words which values of pixels were taken from the network's own constants; none if none were."""
    low, high = after.value_range
    return () if before.value_range == after.value_range else (f"pixels from {low:g} to {high:g}",)


def told_of(found: PixelFactors) -> str:
    """Return the formula of a pixel x; empty where pixels enter the first layer as they are."""
    if (found.factors, found.zeros) == ((1.0,), (0.0,)):
        return ""
    if not any(found.zeros):
        return f"{_shown(found.factors)} x"
    if all(zero < 0 for zero in found.zeros):
        return f"{_shown(found.factors)} (x + {_shown(tuple(-zero for zero in found.zeros))})"
    return f"{_shown(found.factors)} (x - {_shown(found.zeros)})"


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


def _top_of_range(factor: float) -> int:
    """Return the largest value of a depth of 8 to 16 bits that a factor brings near 1; 255 where none is.

    >>> [_top_of_range(factor) for factor in (1.53e-05, 0.000244, 0.00098, 0.002)]
    [65535, 4095, 1023, 255]
    """
    tops = [2**bits - 1 for bits in (8, 10, 12, 14, 16)]
    return next((top for top in tops if abs(top * factor - 1) <= CLOSE), tops[0])


def _shown(values: tuple[float, ...]) -> str:
    texts = list(dict.fromkeys(f"{value:g}" for value in values))
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
