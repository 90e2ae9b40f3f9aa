"""What a claim can be about: numbers of single runs, and of runs beside their null."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from auditor.records import record

Run = Mapping[str, Any]
# Runs on another clip's update, of the same cell and clip.
Nulls = tuple[Run, ...]


@record
class Measure:
    """One number of a run: `unit` as it is printed, `meaning` in a sentence."""

    name: str
    unit: str
    meaning: str
    of: Callable[[Run, Nulls], float | None]


def _score(name: str) -> Callable[[Run, Nulls], float | None]:
    return lambda run, nulls: _number(run["score"], name)


def _number(block: Mapping[str, Any] | None, name: str) -> float | None:
    value = None if block is None else block.get(name)
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _mean(values: list[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else None


def _lead(run: Run, nulls: Nulls) -> float | None:
    """The PSNR over the best of what is had without this update: blind guesses, and the attack on another's update."""
    own, blind = _number(run["score"], "psnr"), _number(run["score"], "blind")
    null = _mean([_number(n["score"], "psnr") for n in nulls])
    if own is None or blind is None or null is None:
        return None
    return own - max(blind, null)


def _over_null(name: str) -> Callable[[Run, Nulls], float | None]:
    def difference(run: Run, nulls: Nulls) -> float | None:
        own, null = _number(run["score"], name), _mean([_number(n["score"], name) for n in nulls])
        return None if own is None or null is None else own - null

    return difference


def _enhanced(name: str) -> Callable[[Run, Nulls], float | None]:
    return lambda run, nulls: _mean([_number(e, name) for e in run["enhanced"]])


def _enhanced_over_null(run: Run, nulls: Nulls) -> float | None:
    own = _mean([_number(e, "over_bicubic") for e in run["enhanced"]])
    null = _mean([_number(e, "over_bicubic") for n in nulls for e in n["enhanced"]])
    return None if own is None or null is None else own - null


def _feature_bits(run: Run, nulls: Nulls) -> float | None:
    own = _bits(run)
    null = _mean([_bits(n) for n in nulls])
    return None if own is None or null is None else own - null


def _bits(run: Run) -> float | None:
    """Bits of which clip it was, by the recovered features themselves; none are told where nothing was recovered."""
    block = run.get("features")
    if block is None:
        return None
    rank, size = _number(block, "rank"), _number(block, "gallery")
    return 0.0 if rank is None or size is None else math.log2(size / rank)


def _found(run: Run, nulls: Nulls) -> float | None:
    rank = _number(run["score"], "rank")
    return None if rank is None else float(rank == 1)


MEASURES = (
    Measure(name="psnr", unit="dB", meaning="PSNR of the clip", of=_score("psnr")),
    Measure(
        name="gain", unit="dB", meaning="PSNR over the best blind guess, the reference copy included", of=_score("gain")
    ),
    Measure(
        name="lead",
        unit="dB",
        meaning="PSNR over the best of what is had without this update: every blind guess, the reference copy, and the "
        "same attack on another clip's update",
        of=_lead,
    ),
    Measure(name="ssim", unit="", meaning="SSIM of the median frame", of=_score("ssim")),
    Measure(
        name="motion_gain",
        unit="dB",
        meaning="PSNR of the motion residual over a motionless clip",
        of=_score("motion_gain"),
    ),
    Measure(
        name="motion_over_copy",
        unit="dB",
        meaning="PSNR of the motion residual over that of the reference frames themselves, held or interpolated",
        of=_score("motion_over_copy"),
    ),
    Measure(
        name="found", unit="", meaning="share of runs that point to the true clip first among the gallery", of=_found
    ),
    Measure(
        name="bits",
        unit="bit",
        meaning="log2(gallery / rank) of the true clip: what the reconstruction tells of which clip it was",
        of=_score("bits"),
    ),
    Measure(
        name="bits_over_null",
        unit="bit",
        meaning="bits over those of the same attack on another clip's update",
        of=_over_null("bits"),
    ),
    Measure(
        name="feature_bits_over_null",
        unit="bit",
        meaning="log2(gallery / rank) of the true clip by distance to the recovered features, no picture involved, "
        "over that of features from another clip's update",
        of=_feature_bits,
    ),
    Measure(
        name="enhanced",
        unit="dB",
        meaning="PSNR of the enhanced frames over bicubic enlargement, against the frames before they were resized",
        of=_enhanced("over_bicubic"),
    ),
    Measure(
        name="enhanced_over_null",
        unit="dB",
        meaning="what enhancement adds over bicubic, less what it adds to the null",
        of=_enhanced_over_null,
    ),
)
BY_NAME = {measure.name: measure for measure in MEASURES}
