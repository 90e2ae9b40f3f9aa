"""Scenes: which clips show the same one, and single frames of the shipped ones and of a clip's own camera."""

import math
from dataclasses import replace

import torch

from auditor.probe.fit import fit, own_window
from auditor.probe.real import manifest, shipped_frames
from auditor.records import Clip, InputSpec, Probe

# Measured at 8x32x32 over windows of 17 clips that show 14 places (shipped clips and ten of docs/grades.md): windows of
# one clip score 10.9 to 33.6 dB against each other, those of two places at most 14.5 dB.
_ALIKE_DB = 14.5
# The same windows: correlation of their median frames 0.28 to 1.00 within a clip, at most 0.48 between two. It forgives
# another exposure, and persons that walk through.
_ALIKE_CORRELATION = 0.6


def alike(a: Probe, b: Probe) -> bool:
    """Tell whether two probes are the same clip or views of one scene: then one's update is no null for the other.

    Of shipped clips the scenes are known; a user's clips are of one scene where any of their moments look alike.
    """
    if a.name == b.name or (a.kind == b.kind == "real" and camera(a.name) == camera(b.name)):
        return True
    ones, others = ([clip.cpu() for clip in (probe.clip, *probe.moments)] for probe in (a, b))
    if any(_error(one, other) <= 10 ** (-_ALIKE_DB / 10) for one in ones for other in others):
        return True
    grounds = [_background(other) for other in others]
    return any(_correlation(one, other) >= _ALIKE_CORRELATION for one in map(_background, ones) for other in grounds)


def _error(a: Clip, b: Clip) -> float:
    return float((a - b).double().square().mean())


def _background(clip: Clip) -> Clip:
    """Return the median frame without its colour cast: what stands still."""
    frame = clip.double().median(0).values
    return frame - frame.mean((1, 2), keepdim=True)


def _correlation(a: Clip, b: Clip) -> float:
    scale = float(a.norm() * b.norm())
    return float((a * b).sum()) / scale if scale > 0.0 and math.isfinite(scale) else 0.0


def scene_frames(spec: InputSpec, count: int, offset: int = 0) -> dict[str, Clip]:
    """Return `count` frames of every shipped clip at the model's size, evenly spread, from `offset` on."""
    found = {}
    for entry in manifest():
        frames = shipped_frames(entry)
        step = max(1, len(frames) // count)
        found[str(entry["name"])] = _fitted(frames[offset::step][:count], spec)
    return found


def same_camera(probe: Probe, spec: InputSpec, count: int) -> Clip | None:
    """Return frames of a shipped probe's own scene from before and after the clip; None where there are none.

    Of a user's clip nothing is known outside its window.
    """
    entry = next((e for e in manifest() if probe.kind == "real" and e["name"] == probe.name), None)
    if entry is None:
        return None
    frames = shipped_frames(entry)
    start, length = own_window(len(frames), spec.frames)
    outside = [*range(start), *range(start + length, len(frames))]
    if not outside:
        return None
    chosen = torch.linspace(0, len(outside) - 1, min(count, len(outside))).round().long().tolist()
    return _fitted(frames[[outside[i] for i in chosen]], spec)


def camera(name: str) -> str:
    """Return the scene of a shipped clip, the same place by one camera or several: clips may share one."""
    return next((str(e["scene"]) for e in manifest() if e["name"] == name), name)


def _fitted(frames: Clip, spec: InputSpec) -> Clip:
    return fit(frames, replace(spec, frames=len(frames)), 0, len(frames))[0]
