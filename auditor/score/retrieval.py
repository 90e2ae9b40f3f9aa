"""Re-identification: at which rank does a reconstruction point to the true clip among real candidates?"""

import math
import weakref
from collections.abc import Sequence
from fractions import Fraction
from typing import Literal

import torch
from jaxtyping import Float
from scipy import special
from torch import Tensor
from torch.nn import functional

from auditor.prior.modes import CosineTransform
from auditor.records import Clip, Clips
from auditor.results.scores import ClipScore, Retrieval
from auditor.score.intervals import recall_interval

Measure = Literal["pattern", "mse"]

# Similarities closer than this are equal: float64 sums of a million products differ by less.
_TIE = 1e-9
# A pattern weaker than this (root mean square, in pixel values) is rounding error of float32 clips, not a pattern.
_BLANK = 1e-6


def rank(
    truth: Clip,
    estimate: Clip,
    gallery: Float[Tensor, "candidate frame channel rows columns"],
    measure: Measure = "pattern",
) -> int:
    """Return the rank of the truth among itself and the gallery: 1 is on top, `len(gallery) + 1` is last.

    A tie counts against the attacker: the rank is 1 + the number of candidates at least as close as the truth. Where
    the gallery's frames are smaller, truth and estimate are shrunk to their size.

    `pattern`, the default, is the correlation of clips after taking out what a guesser has without the update: each
    channel's mean over the clip (brightness and colour cast), and the share along the gallery's mean clip (what
    all natural clips have in common). By `mse` a bland candidate is close to every noisy or grey reconstruction
    ("hubness", Radovanovic et al., JMLR 11, 2010) and wins without any leak, while detailed truths can never win;
    `pattern` depends neither on the contrast of candidates nor on that of the reconstruction. A reconstruction without
    a pattern (constant, or the gallery's mean clip) ranks last. Use `mse` for comparison with published numbers only.

    Raises
    ------
    ValueError
        Truth and estimate differ in shape, or the gallery in frames or channels.
    """
    return rank_among(similarities(truth, estimate, gallery, measure))


def similarities(
    truth: Clip, estimate: Clip, gallery: Clips, measure: Measure = "pattern"
) -> Float[Tensor, " candidate"]:
    """Return how close the estimate is to the truth, then to each candidate: what `rank` counts."""
    if truth.shape != estimate.shape or truth.shape[:2] != gallery.shape[1:3]:
        raise ValueError(f"shapes differ: {[tuple(x.shape) for x in (truth, estimate, gallery)]}")
    side = gallery.shape[-2:]
    truth, estimate = (functional.interpolate(clip, side, mode="area").double() for clip in (truth, estimate))
    return _pattern(truth, estimate, gallery) if measure == "pattern" else _closeness(truth, estimate, gallery)


def rank_among(similar: Float[Tensor, " candidate"], few: Sequence[int] | None = None) -> int:
    """Return the rank of the truth, which comes first; among `few` of the candidates that follow if given."""
    candidates = similar[1:] if few is None else similar[1:][list(few)]
    return 1 + int((candidates >= similar[0] - _TIE).sum())


def _closeness(truth: Clip, estimate: Clip, gallery: Clips) -> Float[Tensor, " candidate"]:
    """Return minus the mean square error to the truth, then to each candidate."""
    return torch.stack([-(clip.double() - estimate).square().mean() for clip in (truth, *gallery)])


def z_score(truth: Clip, estimate: Clip, gallery: Clips) -> float:
    """Return how similar an estimate is to the truth, in deviations of what has its modes' strengths but random signs.

    With a_k and b_k the coefficients of the two patterns (see `rank`) in the space-time cosine transform, the
    similarity is sum a_k b_k; for signs that are independent of the truth's it has mean 0 and variance
    sum (a_k b_k)^2 (surrogate data: Theiler et al., Physica D 58, 1992). A clip that few modes make up is resembled by
    chance more often, and scores less for the same similarity: so a clip's own chance is counted, where `rank` takes
    all clips for alike. Measured over foreign shipped clips, sharp and blurred: deviation 0.9 to 1.2, and rank 1 at
    2.3 or more for at most 0.35% of them, with chance 1.2%.
    """
    side = gallery.shape[-2:]
    shape = (*truth.shape[:2], side[0], side[1])
    shown = [functional.interpolate(clip, side, mode="area").double() for clip in (truth, estimate)]
    transform = CosineTransform.of(shape, shown[0])
    common = _Common.of(gallery)
    own, other = (transform.modes(common.own_pattern(clip).reshape(1, *shape)).flatten() for clip in shown)
    terms = own * other
    spread = float(terms.norm())
    return float(terms.sum()) / spread if spread > 0.0 else 0.0


def is_found(score: ClipScore) -> bool:
    """Tell whether a reconstruction points to its clip: rank 1, and no more similar by the clip's own chance.

    The second holds a clip to 1/N of its own, N the size of the gallery: some are on top of foreign reconstructions
    several times as often as chance says.
    """
    return score.rank == 1 and float(special.ndtr(-score.z)) <= 1.0 / score.gallery


def tail_bound(z: float) -> float:
    """Return an upper bound of P(Z >= z) for a sum with random signs, exp(-z^2 / 2) (Hoeffding 1963, theorem 2)."""
    return math.exp(-(max(0.0, z) ** 2) / 2.0)


def _pattern(truth: Clip, estimate: Clip, gallery: Clips) -> Float[Tensor, " candidate"]:
    """Return the partial correlation with the truth, then with each candidate, given the gallery's mean clip."""
    common = _Common.of(gallery)
    pattern = common.own_pattern(estimate)
    # A pattern has no mean, and no part along the mean clip: its product sees what is a candidate's own alone.
    others = [(pattern @ clip.double().flatten()) * scale for clip, scale in zip(gallery, common.scales, strict=True)]
    return torch.stack([pattern @ common.own_pattern(truth), *others])


class _Common:
    """What the clips of a gallery have in common; of the last galleries it is remembered.

    Attributes
    ----------
    scales
        Of each clip, 1 over the length of what is its own; 0 where that is nothing.
    """

    def __init__(self, gallery: Clips) -> None:
        self._gallery, self._version = weakref.ref(gallery), gallery._version
        common = gallery.new_zeros(gallery.shape[1:], dtype=torch.float64)
        for clip in gallery:
            common += _centred(clip.double()) / len(gallery)
        direction = common.flatten()
        self._direction = direction / direction.norm() if float(direction.norm()) > 0 else direction
        lengths = [self._own(clip).norm() for clip in gallery]
        self.scales = [1.0 / float(length) if _is_pattern(length, direction.numel()) else 0.0 for length in lengths]

    @classmethod
    def of(cls, gallery: Clips) -> "_Common":
        """Return those of a gallery, computed once for it as long as it is one of the last and unchanged."""
        for known in _REMEMBERED:
            if known._gallery() is gallery and known._version == gallery._version:
                return known
        made = cls(gallery)
        _REMEMBERED[:] = [made, *(k for k in _REMEMBERED if k._gallery() is not None)][:_MOST_REMEMBERED]
        return made

    def own_pattern(self, clip: Clip) -> Float[Tensor, " value"]:
        """Return what is a clip's own, flat and of length 1: without the part along the gallery's mean clip."""
        own = self._own(clip)
        length = own.norm()
        return own / length if _is_pattern(length, own.numel()) else own * 0

    def _own(self, clip: Clip) -> Float[Tensor, " value"]:
        flat = _centred(clip.double()).flatten()
        return flat - (flat @ self._direction) * self._direction


# Each holds one clip in float64; a user's clips have a gallery each.
_MOST_REMEMBERED = 8
_REMEMBERED: list[_Common] = []


def _is_pattern(length: Tensor, values: int) -> bool:
    return float(length) > _BLANK * values**0.5


def _centred(clip: Clip) -> Clip:
    """Subtract each channel's mean over frames and pixels."""
    return clip - clip.mean((0, 2, 3), keepdim=True)


def summarise(ranks: Sequence[int], gallery: int, *, independent: bool = True) -> Retrieval | None:
    """Return Recall@1, Recall@5 and the mean rank of independent trials beside chance; None without trials.

    `gallery` counts all candidates, the truth included.
    """
    if not ranks:
        return None
    first, fifth = (
        recall_interval(sum(r <= at for r in ranks), len(ranks), gallery, min(at, gallery)) for at in (1, 5)
    )
    return Retrieval(
        gallery=gallery,
        recall_1=first,
        recall_5=fifth,
        mean_rank=sum(ranks) / len(ranks),
        chance_rank=(gallery + 1) / 2,
        tail=chance_of_sum(sum(ranks), len(ranks), gallery),
        independent=independent,
    )


def chance_of_sum(total: int, trials: int, gallery: int) -> float:
    """Return P(sum of `trials` ranks <= `total`) where each is uniform on 1..`gallery`, by convolution.

    >>> chance_of_sum(3, 2, 6) == 3 / 36  # two dice show at most three
    True
    """
    ways = [1]
    for _ in range(trials):
        sums = [0] * (len(ways) + gallery)
        running = 0
        for s in range(1, len(sums)):
            running += ways[s - 1] if s - 1 < len(ways) else 0
            running -= ways[s - 1 - gallery] if s - 1 - gallery >= 0 else 0
            sums[s] = running
        ways = sums
    return float(Fraction(sum(ways[: total + 1]), gallery**trials))
