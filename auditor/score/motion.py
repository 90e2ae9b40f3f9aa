"""What of the movement was recovered: a slow clip's mean frame scores high without any."""

import math

from auditor.records import Clip
from auditor.score.psnr import psnr


def residual(clip: Clip) -> Clip:
    """Return each frame less the clip's mean frame: x_t - mean_t x, in [-1, 1]."""
    return clip - clip.mean(0, keepdim=True)


def motion_psnr(truth: Clip, estimate: Clip) -> float:
    """Return the PSNR of the motion residual in dB (peak 1); infinite where both move alike."""
    return float(psnr(residual(truth.double()), residual(estimate.double())))


def motionless_psnr(truth: Clip) -> float:
    """Return what any motionless clip scores by `motion_psnr`: its residual is 0. Infinite for a motionless truth."""
    moved = residual(truth.double())
    return float(psnr(moved, moved * 0))


def motion_gain(truth: Clip, estimate: Clip) -> float:
    """Return `motion_psnr` less `motionless_psnr` in dB; 0 for a motionless truth, which has no motion to leak."""
    still = motionless_psnr(truth)
    return 0.0 if math.isinf(still) else motion_psnr(truth, estimate) - still


def motion_correlation(truth: Clip, estimate: Clip) -> float:
    """Return Pearson's correlation of the frame differences x_(t+1) - x_t over all pixels, in [-1, 1].

    0 where either clip is motionless or has a single frame: nothing moved, so nothing agrees.
    """
    a, b = (clip.double().diff(dim=0).flatten() for clip in (truth, estimate))
    if not a.numel():
        return 0.0
    a, b = a - a.mean(), b - b.mean()
    scale = float(a.norm() * b.norm())
    return float(a @ b) / scale if scale > 1e-12 else 0.0
