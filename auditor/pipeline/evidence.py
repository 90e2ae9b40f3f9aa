"""What reconstructions of several clips say together: scenes found and bits read, beside what luck finds and reads."""

from collections.abc import Sequence

from auditor.pipeline.pairing import scenes
from auditor.records import Probe, record
from auditor.score import (
    ClipScore,
    Interval,
    bits_interval,
    clearly_above_chance,
    clearly_identified,
    is_found,
    merged,
    recall_interval,
)


@record
class Tally:
    """Scenes that were found and canary bits that were read, each clip once.

    Attributes
    ----------
    recall
        Scenes are the trials, as clips of one scene are found or missed together: a scene is found where more than
        half of its clips are. None with reference frames, which find the clip by themselves.
    scores
        Of the real clips behind it; empty where there is no recall.
    """

    recall: Interval | None
    bits: Interval | None
    scores: tuple[ClipScore, ...]

    def retrieved(self, looks: int) -> bool:
        """Whether true clips are found above chance, together or one by itself, chance having `looks` tries."""
        return clearly_above_chance(self.recall, looks) or clearly_identified(self.scores, looks)

    def read(self, looks: int) -> bool:
        """Whether bits are read above chance, chance having `looks` tries."""
        return clearly_above_chance(self.bits, looks)


def tally(scored: Sequence[tuple[Probe, ClipScore]], *, reference: bool) -> Tally:
    """Count scenes and bits; `scored` holds each clip once, as seeds on one clip are not independent trials."""
    real = [] if reference else [(p, s) for p, s in scored if s.bits is None]
    correct, trials, chance = merged([s.bits for _, s in scored])
    return Tally(
        recall=_over_scenes(real) if real else None,
        bits=bits_interval(correct, trials, chance) if trials else None,
        scores=tuple(s for _, s in real),
    )


def _over_scenes(real: Sequence[tuple[Probe, ClipScore]]) -> Interval:
    by_scene: dict[int, list[bool]] = {}
    for scene, (_, score) in zip(scenes([p for p, _ in real]), real, strict=True):
        by_scene.setdefault(scene, []).append(is_found(score))
    found = sum(2 * sum(clips) > len(clips) for clips in by_scene.values())
    return recall_interval(found, len(by_scene), min(s.gallery for _, s in real))
