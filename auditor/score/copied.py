"""What reference frames are without any update, and whether a reconstruction is more than they are."""

import math

from jaxtyping import Float
from torch import Tensor

from auditor.records import Clip, Probe
from auditor.results.scores import CopyScore
from auditor.score.baselines import reference_copies
from auditor.score.motion import motion_gain
from auditor.score.psnr import psnr

# A reconstruction whose departure from the copy has a tenth of the energy that it takes to reach the truth (10 dB) is
# the copy, whatever else it is: attacks that follow the update depart by about as much as the truth does.
PASTED_DB = 10.0


def score_copy(
    truth: Probe, estimate: Clip, reference: Float[Tensor, "shown channel ref_rows ref_columns"]
) -> CopyScore:
    """Compare a reconstruction (frame, channel, height, width) with what its reference frames are by themselves.

    Of several copies each number is the one that favours the copies: none of them needs an update.
    """
    clip = truth.clip.cpu()
    copies = list(reference_copies(reference, len(clip), (clip.shape[-2], clip.shape[-1])).values())
    levels = [float(psnr(clip, copy)) for copy in copies]
    moved = max(motion_gain(clip, copy) for copy in copies)
    level, nearest = max(levels), copies[levels.index(max(levels))]
    return CopyScore(
        psnr=level,
        gain=_less(float(psnr(clip, estimate)), level),
        motion_gain=moved,
        motion_beyond=_less(motion_gain(clip, estimate), moved),
        followed=_followed(clip, estimate, nearest),
        pasted=any(float(psnr(estimate, copy)) >= own + PASTED_DB for copy, own in zip(copies, levels, strict=True)),
        bits=_bits(truth, copies),
    )


def _less(score: float, copied: float) -> float:
    """Return the difference in dB: nothing is gained over a copy that is perfect."""
    return min(0.0, score) if math.isinf(copied) else score - copied


def _followed(truth: Clip, estimate: Clip, copy: Clip) -> float:
    way = (truth - copy).double()
    length = float(way.square().sum())
    return float(((estimate - copy).double() * way).sum()) / length if length > 0.0 else 0.0


def _bits(truth: Probe, copies: list[Clip]) -> int | None:
    if truth.payload is None or truth.decode is None:
        return None
    payload, decode = truth.payload, truth.decode
    return max(sum(a == b for a, b in zip(decode(copy), payload, strict=True)) for copy in copies)
