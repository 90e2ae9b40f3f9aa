"""What a set of reconstructions demonstrates: the verdict grid."""

from collections.abc import Sequence

from auditor.results.scores import EXACT_DB, NO_CONTENT, VISIBLE_CONTENT, ClipScore, Grade, Interval
from auditor.score.intervals import significant
from auditor.score.retrieval import tail_bound

# A blind guess and its own noise differ by tenths of a dB; one whole dB is more than rounding or luck in one clip.
GAIN_DB = 1.0
# A quarter of the best blind guess's error, structure and all: no null control of this project came within 5 dB of it,
# so a single clip like that is a breach whatever retrieval over a handful of clips can say.
STRONG_GAIN_DB = 6.0
STRONG_SSIM = 0.7
# How often chance alone may raise anything in a whole audit: what is tested several times shares it (Bonferroni).
ALPHA = 0.01


def grade_clip(score: ClipScore, *, with_reference: bool = False) -> Grade:
    """Grade one reconstruction by itself: EXACT, RECOGNISABLE or NOT_SHOWN (a gist needs many clips to be shown).

    Both say what can be seen: RECOGNISABLE that what moves can be made out (`content`), EXACT that the frames are the
    client's to the eye. A picture of a scene without its persons is neither, however many dB it has. Both must point to
    the scene among others; which moment of it, is for retrieval to tell. An attacker who holds reference frames must
    also beat them in motion, or the picture is only the reference; nothing that shows the clip already can be beaten.
    """
    beats_blind = score.gain >= GAIN_DB and (not with_reference or _beyond_reference(score))
    if _rank_of_scene(score) != 1 or not beats_blind:
        return Grade.NOT_SHOWN
    if score.psnr >= EXACT_DB:
        return Grade.EXACT
    return Grade.RECOGNISABLE if score.content is not None and score.content >= VISIBLE_CONTENT else Grade.NOT_SHOWN


def may_be_recognised(score: ClipScore) -> bool:
    """Tell whether a reconstruction is RECOGNISABLE, or only the eye could tell: `content` is `NO_CONTENT` or more."""
    if grade_clip(score) >= Grade.RECOGNISABLE:
        return True
    points_to_the_scene = _rank_of_scene(score) == 1 and score.gain >= GAIN_DB
    return points_to_the_scene and score.content is not None and score.content >= NO_CONTENT


def _rank_of_scene(score: ClipScore) -> int:
    return score.rank if score.rank_scenes is None else score.rank_scenes


def _beyond_reference(score: ClipScore) -> bool:
    """Tell whether a reconstruction moves as the clip does, beyond what any copy of its reference frames does."""
    if score.motion_gain < GAIN_DB:
        return False
    copy = score.copy
    return copy is None or (copy.psnr < EXACT_DB and not copy.pasted and copy.motion_beyond >= GAIN_DB)


def grade_finding(
    scores: Sequence[ClipScore],
    *,
    recall_significant: bool,
    bits_significant: bool,
    with_reference: bool = False,
) -> Grade:
    """Grade an attack over its probes.

    - EXACT: at least one clip is.
    - RECOGNISABLE: at least one clip is, and the true clips are found in the gallery above chance, or one clip leaves
      blind guesses far behind (6 dB and SSIM 0.7). With a reference
      frame retrieval proves nothing (the reference alone finds the clip), so more than half of the clips, and at
      least two, must be.
    - GIST: retrieval or canary bits above chance only.
    """
    grades = [grade_clip(s, with_reference=with_reference) for s in scores]
    if Grade.EXACT in grades:
        return Grade.EXACT
    shown = sum(g is Grade.RECOGNISABLE for g in grades)
    strong = any(_is_strong(s) for s, g in zip(scores, grades, strict=True) if g >= Grade.RECOGNISABLE)
    several = 2 * shown > len(grades) and shown > 1
    if shown and (strong or (several if with_reference else recall_significant)):
        return Grade.RECOGNISABLE
    if bits_significant or (recall_significant and not with_reference):
        return Grade.GIST
    return Grade.NOT_SHOWN


def _is_strong(score: ClipScore) -> bool:
    middle = sorted(score.ssim_frames)[len(score.ssim_frames) // 2]
    return grade_clip(score) >= Grade.RECOGNISABLE and score.gain >= STRONG_GAIN_DB and middle >= STRONG_SSIM


def reach(scores: Sequence[ClipScore], *, with_reference: bool = False) -> float:
    """Share of the reconstructions that are at least RECOGNISABLE by themselves, in [0, 1]."""
    if not scores:
        return 0.0
    return sum(grade_clip(s, with_reference=with_reference) >= Grade.RECOGNISABLE for s in scores) / len(scores)


def merged(intervals: Sequence[Interval | None]) -> tuple[int, int, float]:
    """Add up hits and trials of the intervals there are, and average their chance over the trials."""
    kept = [i for i in intervals if i is not None]
    trials = sum(i.trials for i in kept)
    chance = sum(i.chance * i.trials for i in kept) / trials if trials else 0.0
    return sum(i.hits for i in kept), trials, chance


def clearly_above_chance(interval: Interval | None, looks: int = 1) -> bool:
    """Tell whether an interval lies above chance and the exact tail is at most `ALPHA`; False without trials.

    `looks` is how many tries chance had (Bonferroni): attacks and questions of an audit, and reconstructions of a batch
    from which the one nearest the truth was scored.
    """
    return interval is not None and significant(interval, ALPHA / looks)


def clearly_identified(scores: Sequence[ClipScore], looks: int = 1) -> bool:
    """Tell whether one reconstruction alone points to its clip beyond luck, whatever the others do.

    It is on top of the gallery, and so similar that the bound of its own chance is at most `ALPHA`, shared among
    `looks` and the clips. Rank 1 of N by itself is never less likely than 1/N.
    """
    return any(s.rank == 1 and tail_bound(s.z) <= ALPHA / (looks * len(scores)) for s in scores)
