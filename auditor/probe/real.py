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
from auditor.records import Clip, InputSpec, Probe
from auditor.shipped import shipped


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
