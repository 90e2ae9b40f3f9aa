"""Single frames to ask about: of the shipped scenes, and of a clip's own camera at other times."""

from dataclasses import replace

import torch

from auditor.probe.fit import fit, own_window
from auditor.probe.real import manifest, shipped_frames
from auditor.records import Clip, InputSpec, Probe


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
