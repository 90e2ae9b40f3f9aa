"""Filmstrips as PNG data URIs, small enough to travel inside results.json."""

import base64
import io

import torch
from PIL import Image
from torch.nn import functional

from auditor.pipeline.enhancement import Enhancement
from auditor.pipeline.findings import Finding
from auditor.pipeline.scored.scoring import Result
from auditor.records import Clip
from auditor.results.audit import FRAME_SIDE
from auditor.results.findings import Pictures
from auditor.score import reference_copies

FRAMES = 8
_THUMBNAIL = 32
# A report of many large clips stays within a few MB when only the telling results carry pictures.
PICTURED = 4


def pictured(finding: Finding) -> set[int]:
    """The results of a finding that get pictures, by `id`: the best, the median and two more."""
    ranked = sorted(finding.results, key=lambda r: -r.score.gain)
    chosen = [ranked[0], ranked[len(ranked) // 2], *ranked][: PICTURED + 2]
    return {id(r) for r in chosen[:PICTURED]} | {id(ranked[len(ranked) // 2])}


def strips(result: Result, enhancements: tuple[Enhancement, ...]) -> Pictures:
    """Return the same frames of the original, the reconstruction, its enhancement, the blind guess and the null."""
    truth = result.observed.probe.clip
    shown = torch.linspace(0, len(truth) - 1, min(FRAMES, len(truth))).round().long().tolist()
    # Scales have truths of their own, so dB over bicubic compare where dB do not.
    best = max(enhancements, key=lambda e: (e.added is not None, e.gain_over_bicubic)) if enhancements else None
    name, guess = _blind(result)
    return Pictures(
        frames=tuple(shown),
        original=_strip(truth, shown),
        reconstruction=_strip(result.clip, shown),
        enhanced=None if best is None else _strip(best.clip, shown),
        enhanced_method=None if best is None else f"{best.method} x{best.scale}",
        enhanced_null=None if best is None or best.null_clip is None else _strip(best.null_clip, shown),
        baseline=None if guess is None else _strip(guess, shown),
        baseline_name=name,
        reference=_reference(result, shown),
        null=None if result.null_clip is None else _strip(result.null_clip, shown),
    )


def _reference(result: Result, frames: list[int]) -> tuple[str, ...] | None:
    """The reference copy over the same frames: what this attacker started from."""
    if result.held is None:
        return None
    clip = result.observed.probe.clip
    copy = reference_copies(result.held, len(clip), (clip.shape[-2], clip.shape[-1]))["reference copy"]
    return _strip(copy, frames)


def _blind(result: Result) -> tuple[str, Clip | None]:
    """The best blind guess for this clip."""
    name = max(result.score.baselines, key=lambda n: result.score.baselines[n])
    return name, result.guesses.get(name)


def _strip(clip: Clip, frames: list[int]) -> tuple[str, ...]:
    return tuple(png(clip[i]) for i in frames)


def thumbnail(frame: torch.Tensor) -> str:
    """Encode one frame small: 32 pixels on its longer side, or as it is where that is less."""
    longest = max(frame.shape[-2:])
    if longest > _THUMBNAIL:
        size = [max(1, round(s * _THUMBNAIL / longest)) for s in frame.shape[-2:]]
        frame = functional.interpolate(frame[None], size, mode="area")[0]
    return png(frame)


def png(frame: torch.Tensor) -> str:
    """Encode one frame `(channel, height, width)` in [0, 1]; longer sides than 160 px are shrunk for display."""
    longest = max(frame.shape[-2:])
    if longest > FRAME_SIDE:
        size = [max(1, round(s * FRAME_SIDE / longest)) for s in frame.shape[-2:]]
        frame = functional.interpolate(frame[None], size, mode="area")[0]
    levels = (frame.detach().cpu().clamp(0.0, 1.0) * 255.0).round().to(torch.uint8)
    image = Image.fromarray(levels[0].numpy() if len(levels) != 3 else levels.permute(1, 2, 0).numpy())
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
