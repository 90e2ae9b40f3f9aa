"""What reconstructions of one truth look like: perceptual distances beside a blind guess, and the embedding's rank."""

from collections.abc import Mapping
from dataclasses import replace

from torch.nn import functional

from auditor.records import Clip, Clips
from auditor.results.scores import ClipScore
from auditor.score.embedding import embedding_rank
from auditor.score.lpips import Lpips
from auditor.score.perceptual import distance_of_looks, looks
from auditor.score.remembered import Remembered

# Distances of frames of one clip differ little, and a scan measures some dozens of clips.
_FRAMES = 4
# Larger frames are shrunk: the cost grows with the area, the order of distances does not change.
_LARGEST = 128
# Truths and blind guesses come again with every attack, reconstructions do not; the maps of one take 2 to 4 MB.
_known_looks = Remembered(looks, most=24)


class Appearance:
    """Measures how reconstructions of one truth look; what the truth needs is computed once.

    Parameters
    ----------
    truth
        `(frame, channel, height, width)`.
    guesses
        Blind guesses at it, by name: the one that looks most like it is the baseline.
    gallery
        Candidates without the truth, for the rank by embeddings; None leaves it out, as for clips that are no scenes.
    lpips
        Where the user has its weights.
    """

    def __init__(
        self, truth: Clip, guesses: Mapping[str, Clip], gallery: Clips | None = None, lpips: Lpips | None = None
    ) -> None:
        self._truth, self._gallery, self._lpips = truth.cpu(), gallery, lpips
        self._few = _few(self._truth)
        self._looks = _known_looks(self._few)
        shown = [_few(guess) for guess in guesses.values()]
        self._blind = min(distance_of_looks(self._looks, _known_looks(guess)) for guess in shown)
        self._lpips_blind = None if lpips is None else min(lpips(self._few, guess) for guess in shown)

    def added(self, score: ClipScore, estimate: Clip) -> ClipScore:
        """Return the score with what `estimate` looks like; distances are over at most four frames, spread evenly."""
        estimate = estimate.detach().cpu().float().nan_to_num(0.5).clamp(0, 1)
        few = _few(estimate)
        return replace(
            score,
            perceptual=self._distance(few),
            perceptual_blind=self._blind,
            lpips=None if self._lpips is None else self._lpips(self._few, few),
            lpips_blind=self._lpips_blind,
            embedding_rank=None if self._gallery is None else embedding_rank(self._truth, estimate, self._gallery),
        )

    def _distance(self, few: Clip) -> float:
        return distance_of_looks(self._looks, looks(few))


def _few(clip: Clip) -> Clip:
    """Return at most four frames, spread evenly, none with a side that has to be larger than 128."""
    last = len(clip) - 1
    places = sorted({round(i * last / (_FRAMES - 1)) for i in range(_FRAMES)})
    frames = clip[places]
    shrink = _LARGEST / min(frames.shape[-2:])
    if shrink >= 1.0:
        return frames
    size = [max(1, round(extent * shrink)) for extent in frames.shape[-2:]]
    return functional.interpolate(frames, size, mode="area")
