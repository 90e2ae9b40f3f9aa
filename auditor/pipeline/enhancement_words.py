"""What an enhancer did to a reconstruction, in one word and one sentence."""

from auditor.records import Clip
from auditor.results.findings import Added, EnhancedScore

# dB over bicubic that count: an eighth of the error gone. The truth itself is resampled, and another kernel for that
# (bilinear, area) takes 14 to 40% off a gain (three shipped clips): half a dB stays a gain under any of them.
MARGIN = 0.5
# Relative change of perceptual distance, and of sharpness, that counts: more than a blur of half a pixel makes (7 to
# 10% farther, 6 to 9% less sharp; three shipped clips at 64 x 64).
NEARER, SHARPER = 0.1, 0.1


def sharpness(clip: Clip) -> float:
    """Return the mean absolute difference of neighbouring pixels."""
    return float((clip.diff(dim=-1).abs().mean() + clip.diff(dim=-2).abs().mean()) / 2)


def added(
    base: EnhancedScore, made: EnhancedScore, null_base: EnhancedScore | None, null: EnhancedScore | None
) -> Added:
    """Hold an enhanced reconstruction beside bicubic, and its gain beside the gain of the enhanced null.

    A gain counts as recovered only where it passes the null's own by the margin: what an enhancer gains on an unrelated
    update (smoothing noise gains dB against any truth) tells nothing of the clip.
    """
    gain = made.psnr - base.psnr
    was, now = _ranks(base, made)
    over = f"{gain:+.1f} dB over bicubic"
    if null is None or null_base is None:
        return Added(word="not judged", sentence=f"{over}, and no null to hold it against.")
    null_gain = null.psnr - null_base.psnr
    both = f"{over}, {null_gain:+.1f} dB on the null"
    prettier = _prettier(base, made)
    if gain >= MARGIN and gain - max(0.0, null_gain) >= MARGIN and now <= was:
        return Added(word="recovered detail", sentence=f"{both}: nearer to the clip than interpolation comes.")
    if gain >= MARGIN and now > was:
        return Added(word="nothing", sentence=f"{both}, but the true clip fell from rank {was} to {now}.")
    if gain >= MARGIN:
        return Added(word="nothing", sentence=f"{both}: an unrelated update gains as much.")
    if prettier and (gain > -MARGIN or "perceptual" in prettier):
        return Added(word="only prettier", sentence=f"{both}, {prettier}: it looks better and tells no more.")
    if gain <= -MARGIN:
        return Added(word="worse", sentence=f"{both}: farther from the clip than interpolation comes.")
    return Added(word="nothing", sentence=f"{both}: neither nearer to the clip nor sharper.")


def _ranks(base: EnhancedScore, made: EnhancedScore) -> tuple[int, int]:
    """The ranks before and after, by the search that lost more."""
    by_pixels = (base.rank, made.rank)
    if base.embedding_rank is None or made.embedding_rank is None or made.rank > base.rank:
        return by_pixels
    return (base.embedding_rank, made.embedding_rank)


def _prettier(base: EnhancedScore, made: EnhancedScore) -> str:
    if base.perceptual is not None and made.perceptual is not None:
        change = made.perceptual / base.perceptual - 1 if base.perceptual > 0 else 0.0
        if change <= -NEARER:
            return f"perceptual distance {100 * change:+.0f}%"
    change = made.sharpness / base.sharpness - 1 if base.sharpness > 0 else 0.0
    return f"sharpness {100 * change:+.0f}%" if change >= SHARPER else ""
