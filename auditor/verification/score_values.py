"""Values of scores and intervals that follow from others beside them, computed again."""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from auditor.score.intervals import clopper_pearson, wilson
from auditor.verification.check import near, real

_INTERVALS = {"Wilson score, 95%": wilson, "Clopper-Pearson, 95%": clopper_pearson}
# A clip's error is the mean of its frames', each written with six digits.
_FRAMES_DB = 0.01

Block = Mapping[str, Any]


def interval_doubts(value: Any, at: str = "") -> Iterator[str]:
    """Yield every interval, wherever it is, that is not that of its hits and trials."""
    if isinstance(value, Mapping):
        if value.keys() >= {"hits", "trials", "low", "high", "method"}:
            yield from _interval(value, at)
            return
        for name, item in value.items():
            yield from interval_doubts(item, f"{at}.{name}" if at else str(name))
    elif isinstance(value, list):
        for n, item in enumerate(value):
            yield from interval_doubts(item, f"{at}[{n}]")


def _interval(block: Block, at: str) -> Iterator[str]:
    if block["hits"] > block["trials"]:
        yield f"{at} has {block['hits']} hits in {block['trials']} trials"
        return
    bounds = _INTERVALS.get(block["method"])
    if bounds is None:
        return
    for name, expected in zip(("low", "high"), bounds(block["hits"], block["trials"]), strict=True):
        if not near(block[name], expected):
            yield f"{at}.{name} is {block[name]}, and follows as {expected:.4f}"


def score_doubts(results: Block) -> Iterator[str]:
    """Yield every number of a score that does not follow from its frames and baselines."""
    frames = {probe["name"]: probe["shape"][0] for probe in results["probes"] if probe["shape"]}
    for finding in results["findings"]:
        for n, run in enumerate(finding["results"]):
            for name in ("score", "null"):
                if run[name] is not None:
                    yield from _score(run[name], f"{finding['id']}.results[{n}].{name}", frames.get(run["probe"]))


def _score(score: Block, at: str, frames: int | None) -> Iterator[str]:
    if len(score["psnr_frames"]) == frames == len(score["ssim_frames"]):
        for name, expected in _of_frames(score["psnr_frames"], score["ssim_frames"]).items():
            if not near(score[name], expected, _FRAMES_DB if name == "psnr" else 1e-4):
                yield f"{at}.{name} is {score[name]}, and follows as {expected:.6g}"
    if score["baselines"]:
        blind = max(map(real, score["baselines"].values()))
        gain = 0.0 if blind == math.inf else real(score["psnr"]) - blind
        if not near(score["gain"], gain, 1e-3):
            yield f"{at}.gain is {score['gain']}, and follows as {gain:.6g}"
    copy = score.get("copy")
    if copy is not None:
        yield from _copy(score, copy, at)


def _of_frames(psnr: Sequence[Any], ssim: Sequence[Any]) -> dict[str, float]:
    levels, likeness = [real(p) for p in psnr], [real(s) for s in ssim]
    error = statistics.fmean(10.0 ** (-level / 10.0) for level in levels)
    return {
        "psnr": -10.0 * math.log10(error) if error > 0.0 else math.inf,
        "psnr_best": max(levels),
        "psnr_median": statistics.median(levels),
        "ssim_best": max(likeness),
        "ssim_median": statistics.median(likeness),
    }


def _copy(score: Block, copy: Block, at: str) -> Iterator[str]:
    for name, of, less in (("gain", "psnr", "psnr"), ("motion_beyond", "motion_gain", "motion_gain")):
        copied = real(copy[less])
        expected = min(0.0, real(score[of])) if math.isinf(copied) else real(score[of]) - copied
        if not near(copy[name], expected, 1e-3):
            yield f"{at}.copy.{name} is {copy[name]}, and follows as {expected:.6g}"
