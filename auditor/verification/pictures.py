"""Pictures held against the scores beside them: a picture that was replaced shows another error than is told."""

import base64
import binascii
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from auditor.results.audit import FRAME_SIDE
from auditor.verification.check import real

Block = Mapping[str, Any]
Frame = np.ndarray[Any, np.dtype[np.float64]]
_PREFIX = "data:image/png;base64,"
# Pixels are written in 256 steps: each of two pictures is off by at most half a step.
_STEP = 1.0 / 255.0
_CHANNELS = (1, 3)


def picture_doubts(results: Block) -> Iterator[str]:
    """Yield every picture that is none, and every frame whose error is not that of its score."""
    shapes = {probe["name"]: probe["shape"] for probe in results["probes"]}
    for finding in results["findings"]:
        for n, run in enumerate(finding["results"]):
            if run["pictures"] is not None:
                at = f"{finding['id']}.results[{n}].pictures"
                yield from _undecodable(run["pictures"], at)
                yield from _errors(run, shapes.get(run["probe"]) or (), at)


def _undecodable(pictures: Block, at: str) -> Iterator[str]:
    for name, strip in pictures.items():
        for k, uri in enumerate(strip if isinstance(strip, list) else ()):
            if isinstance(uri, str) and uri.startswith("data:") and _decoded(uri) is None:
                yield f"{at}.{name}[{k}] is no picture"


def _errors(run: Block, shape: Sequence[int], at: str) -> Iterator[str]:
    """Frames that are shown at their own size have the error that their PSNR tells, but for rounding."""
    score, pictures = run["score"], run["pictures"]
    strips = (pictures["original"], pictures["reconstruction"])
    if score is None or None in strips or len(shape) != 4 or max(shape[2:]) > FRAME_SIDE or shape[1] not in _CHANNELS:
        return
    for frame, original, recovered in zip(pictures["frames"], *strips, strict=False):
        if frame >= len(score["psnr_frames"]) or None in (original, recovered):
            continue
        truth, estimate = _decoded(original), _decoded(recovered)
        if truth is None or estimate is None:
            continue
        if truth.shape != estimate.shape or truth.shape[:2] != tuple(shape[2:]):
            yield f"{at}: frame {frame} is not of the clip's size"
        elif not _agree(truth, estimate, real(score["psnr_frames"][frame])):
            yield f"{at}: frame {frame} does not show the {score['psnr_frames'][frame]} dB that its score tells"


def _agree(truth: Frame, estimate: Frame, psnr: float) -> bool:
    shown, told = math.sqrt(float(np.square(truth - estimate).mean())), 10.0 ** (-psnr / 20.0)
    return abs(shown - told) <= _STEP


def _decoded(uri: str) -> Frame | None:
    if not uri.startswith(_PREFIX):
        return None
    try:
        content = io.BytesIO(base64.b64decode(uri.removeprefix(_PREFIX), validate=True))
        with Image.open(content, formats=("PNG",)) as png:
            return np.asarray(png.convert("RGB"), dtype=np.float64) / 255.0
    except (OSError, ValueError, SyntaxError, binascii.Error, Image.DecompressionBombError):
        return None
