"""The real clips that ship with the package, checked against their digests."""

import functools
import hashlib
import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from auditor.errors import AuditError
from auditor.probe.fit import PICTURES, fit, own_window
from auditor.probe.texture import moving_texture
from auditor.records import Clip, Clips, InputSpec, Probe
from auditor.shipped import shipped

# Share of a side that a window keeps at least: the persons of the clips stay in view.
_SMALLEST = 0.75


@functools.cache
def manifest() -> tuple[Mapping[str, Any], ...]:
    """Return the entries of `probes/manifest.json`, clips with people in view first."""
    return tuple(json.loads((shipped("probes") / "manifest.json").read_text(encoding="utf-8")))


def shipped_names() -> tuple[str, ...]:
    """Return the names of the shipped clips, clips with people in view first."""
    return tuple(str(entry["name"]) for entry in manifest())


def shipped_frames(entry: Mapping[str, Any]) -> Clip:
    """Return all frames of a shipped clip, (24, 3, 112, 112) in [0, 1].

    Raises
    ------
    AuditError
        The file is missing or its digest is not the manifest's.
    """
    path = shipped("probes") / entry["file"]
    try:
        content = path.read_bytes()
    except OSError as error:
        raise AuditError(f"the shipped probe {entry['file']} is missing", "reinstall fl-audit") from error
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise AuditError(f"the shipped probe {entry['file']} is damaged (its sha256 differs)", "reinstall fl-audit")
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        frames = torch.from_numpy(arrays["frames"])
    return frames.permute(0, 3, 1, 2).float().div_(255)


def shipped_probes(spec: InputSpec, limit: int | None = None) -> tuple[Probe, ...]:
    """Return the shipped clips as probes, clips with people in view first, at most `limit`.

    Raises
    ------
    AuditError
        A shipped file is missing or damaged.
    UsageError
        The model reads neither 1 nor 3 channels.
    """
    return tuple(_probe(entry, spec) for entry in manifest()[:limit])


def shipped_windows(spec: InputSpec, rng: np.random.Generator, count: int) -> dict[str, Clips]:
    """Return windows of every shipped clip by its name: other frames, other crops, half of them mirrored.

    Raises
    ------
    AuditError
        A shipped file is missing or damaged.
    """
    return {
        entry["name"]: torch.stack([_window(shipped_frames(entry), spec, rng) for _ in range(count)])
        for entry in manifest()
    }


def _window(frames: Clip, spec: InputSpec, rng: np.random.Generator) -> Clip:
    height, width = (round(side * rng.uniform(_SMALLEST, 1.0)) for side in frames.shape[-2:])
    top, left = rng.integers(frames.shape[-2] - height + 1), rng.integers(frames.shape[-1] - width + 1)
    cut = frames[..., top : top + height, left : left + width]
    _, length = own_window(len(frames), spec.frames)
    start = int(rng.integers(len(frames) - length + 1))
    return fit(cut.flip(-1) if rng.random() < 0.5 else cut, spec, start, length)[0]


def probes_of_scenes(spec: InputSpec, limit: int) -> tuple[Probe, ...]:
    """Return up to `limit` shipped clips, one of every scene before a second of any: few clips then vary most.

    Raises
    ------
    AuditError
        A shipped file is missing or damaged.
    """
    seen: dict[str, int] = {}
    entries = []
    for place, entry in enumerate(manifest()):
        seen[entry["scene"]] = seen.get(entry["scene"], 0) + 1
        entries.append((seen[entry["scene"]], place, entry))
    return tuple(_probe(entry, spec) for _, _, entry in sorted(entries, key=lambda e: e[:2])[:limit])


def public_probes(spec: InputSpec, limit: int) -> tuple[Probe, ...]:
    """Return up to `limit` shipped clips; moving textures where the model reads what no shipped clip can become.

    Nobody's private clips, for checks and null controls.

    Raises
    ------
    AuditError
        A shipped file is missing or damaged.
    """
    if spec.channels in PICTURES:
        return shipped_probes(spec, limit)
    return tuple(moving_texture(spec, seed) for seed in range(1, 1 + limit))


def _probe(entry: Mapping[str, Any], spec: InputSpec) -> Probe:
    frames = shipped_frames(entry)
    clip, native = fit(frames, spec, *own_window(len(frames), spec.frames))
    return Probe(
        name=entry["name"],
        kind="real",
        clip=clip,
        native=native,
        sha256=entry["sha256"],
        source=f"{entry['source']}; {entry['people']} in view",
        licence=entry["licence"],
    )
