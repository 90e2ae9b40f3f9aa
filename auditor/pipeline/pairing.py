"""Which reconstruction is held against which clip."""

from collections.abc import Sequence

from auditor.pipeline.context import Observed
from auditor.probe import camera
from auditor.records import Clip, Clips, Probe, Reconstruction
from auditor.score import pair, psnr

# Measured at 8x32x32: different shipped clips, canaries and textures score 8.3 to 13.3 dB against each other, windows
# of one shipped clip 15.4 to 33.6 dB.
_ALIKE_DB = 14.5


def own_clip(truth: Observed, made: Reconstruction) -> Clip:
    """Pick the reconstruction that belongs to the scored clip: gradients do not say which clip of a batch is which."""
    return in_order(truth, made.clips)[0]


def in_order(truth: Observed, clips: Clips) -> Clips:
    """Return reconstructed clips in the order of the true ones, on the CPU."""
    clips = clips.cpu()
    return clips if len(clips) == 1 else clips[list(pair(truth.clips.cpu(), clips))]


def alike(a: Probe, b: Probe) -> bool:
    """Tell whether two probes are the same clip or views of one scene: then one's update is no null for the other.

    Of shipped clips the scenes are known; a user's clips are of one scene where they look alike.
    """
    if a.name == b.name or float(psnr(a.clip, b.clip)) >= _ALIKE_DB:
        return True
    return a.kind == b.kind == "real" and camera(a.name) == camera(b.name)


def scenes(probes: Sequence[Probe]) -> tuple[int, ...]:
    """Number the scenes of probes, in their order: clips that are alike, or alike to one between, share a number."""
    found: list[int] = []
    for i, probe in enumerate(probes):
        joined = {found[j] for j in range(i) if alike(probe, probes[j])}
        number = min(joined, default=i)
        found = [number if scene in joined else scene for scene in found]
        found.append(number)
    return tuple(found)
