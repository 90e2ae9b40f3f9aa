"""Which reconstruction is held against which clip."""

from collections.abc import Sequence

from auditor.pipeline.context import Observed
from auditor.probe import alike
from auditor.records import Clip, Clips, Probe, Reconstruction
from auditor.score import pair


def own_clip(truth: Observed, made: Reconstruction) -> Clip:
    """Pick the reconstruction that belongs to the scored clip: gradients do not say which clip of a batch is which."""
    return in_order(truth, made.clips)[0]


def in_order(truth: Observed, clips: Clips) -> Clips:
    """Return reconstructed clips in the order of the true ones, on the CPU."""
    clips = clips.cpu()
    return clips if len(clips) == 1 else clips[list(pair(truth.clips.cpu(), clips))]


def scenes(probes: Sequence[Probe]) -> tuple[int, ...]:
    """Number the scenes of probes, in their order: clips that are alike, or alike to one between, share a number."""
    found: list[int] = []
    for i, probe in enumerate(probes):
        joined = {found[j] for j in range(i) if alike(probe, probes[j])}
        number = min(joined, default=i)
        found = [number if scene in joined else scene for scene in found]
        found.append(number)
    return tuple(found)
