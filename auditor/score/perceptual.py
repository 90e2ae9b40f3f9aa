"""How different two clips look: a distance between features of a public network, stage by stage."""

import torch
from torch import Tensor
from torch.nn import functional

from auditor.efficientnet import embedder
from auditor.records import Clip
from auditor.score.shapes import check_shapes

# Smaller frames are enlarged to this side: at 32 pixels the last stages would see one position. Larger sides cost more
# and rank no better (benchmarks/perceptual.py).
SIDE = 96
# Median raw distance between two different shipped clips: 1.69 at 32 pixels a side, 1.75 at 64, 1.80 at 112
# (benchmarks/perceptual.py). A distance of 1 is therefore "another scene".
UNIT = 1.75
# The network halves the resolution five times.
_LEAST = 32
_NOTHING = 1e-10


def perceptual_distance(truth: Clip, estimate: Clip) -> float:
    """Return how different two clips look, averaged over frames: 0 for equal clips, about 1 for two different scenes.

    The maps at five resolutions of EfficientNet-Lite0 are scaled to unit length at each position; the squared
    differences are summed over channels and averaged over positions, stages and frames, and divided by `UNIT`. That is
    the form of LPIPS (Zhang, Isola, Efros, Shechtman, Wang, CVPR 2018, arXiv 1801.03924, eq. 1) with equal weights in
    place of learned ones: it ranks distortions sensibly, and its values are not LPIPS values. Frames with a side under
    96 are enlarged to it by bicubic interpolation. One channel stands for three equal ones; of any other number the
    mean does. Values outside [0, 1] are clipped, and NaN counts as mid-grey.

    Raises
    ------
    ValueError
        The shapes differ.
    """
    check_shapes(truth, estimate)
    return distance_of_looks(looks(truth), looks(estimate))


def looks(clip: Clip) -> tuple[Tensor, ...]:
    """Return the maps of every stage, `(frame, channel, rows, columns)`, each position scaled to unit length."""
    with torch.no_grad():
        maps = embedder().stages(seen(clip, SIDE))
        return tuple(m / m.norm(dim=1, keepdim=True).clamp_min(_NOTHING) for m in maps)


def distance_of_looks(truth: tuple[Tensor, ...], estimate: tuple[Tensor, ...]) -> float:
    """Return `perceptual_distance` of two clips from their maps."""
    stages = [(a - b).square().sum(1).mean() for a, b in zip(truth, estimate, strict=True)]
    return float(torch.stack(stages).mean()) / UNIT


def seen(clip: Clip, side: int) -> Clip:
    """Return frames as the network reads them: three channels in [0, 1], even sides of at least `side`."""
    frames = clip.detach().cpu().float().nan_to_num(0.5).clamp(0, 1)
    if frames.shape[1] != 3:
        frames = frames.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    height, width = frames.shape[-2:]
    scale = max(1.0, side / min(height, width))
    size = tuple(max(_LEAST, 2 * round(extent * scale / 2)) for extent in (height, width))
    if size == (height, width):
        return frames
    return functional.interpolate(frames, size, mode="bicubic", align_corners=False).clamp(0, 1)
