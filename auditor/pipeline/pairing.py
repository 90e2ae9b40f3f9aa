"""Which reconstruction is held against which clip."""

from auditor.pipeline.context import Observed
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
    """Tell whether two probes are the same clip or views of one scene: then one's update is no null for the other."""
    return a.name == b.name or float(psnr(a.clip, b.clip)) >= _ALIKE_DB
