"""What scoring finds: one record each, written as it stands."""

import enum
import statistics
from collections.abc import Mapping

from auditor.results.declare import Chance, Decibel, Later, LongName, Measured, Share, derived, record

# From this agreement of what moves on, persons, hands and moving objects were made out in pictures that were looked at:
# of 106 between 15 and 35 dB eye and line agree in 94 (docs/grades.md).
VISIBLE_CONTENT = 0.73
# Below the one nobody was made out in any of 40 pictures, from the other on in 51 of 53: between them the eye decides.
NO_CONTENT, CLEAR_CONTENT = 0.65, 0.9
# 35 dB is a root-mean-square error of 1.8% of the value range: the frames are the client's frames to the eye.
EXACT_DB = 35.0
# A clip counts as exposed when linear analysis says that the update determines half of the variance of the modes that
# were measured: half the squared error of a blind guess, 3 dB where they hold all of it. That is far from a
# recognisable picture: the bar is low because it stands in the way of a PASS.
EXPOSED_SHARE = 0.5


class Grade(enum.IntEnum):
    """What an attack demonstrated, weakest first."""

    NOT_SHOWN = 0
    GIST = 1
    RECOGNISABLE = 2
    EXACT = 3


@record
class Interval:
    """A proportion with its 95% confidence interval, beside what chance would give."""

    hits: int
    trials: int
    low: Share
    high: Share
    chance: Chance
    method: str

    @property
    def above_chance(self) -> bool:
        """True when the whole interval lies above chance."""
        return self.low > self.chance


@record
class CopyScore:
    """What an attacker's reference frames are by themselves, without any update, and what came of them.

    Attributes
    ----------
    psnr
        Of the copy that is nearest to the truth, dB.
    gain
        PSNR of the reconstruction less that.
    motion_gain
        The largest motion gain of any copy: 0 for a frame that is held, more where frames are interpolated.
    motion_beyond
        Motion gain of the reconstruction less that, dB.
    followed
        How far the reconstruction x went from the copy c towards the truth y: (x - c)(y - c) / |y - c|^2. 0 is where it
        started, 1 the truth; what goes elsewhere adds nothing.
    pasted
        Whether the reconstruction is the copy, to within a tenth of the copy's squared error.
    bits
        Canary bits that a copy reads correctly, or None.
    """

    psnr: Decibel
    gain: Decibel
    motion_gain: Decibel
    motion_beyond: Decibel
    followed: Measured
    pasted: bool
    bits: int | None = None


@record
class ClipScore:
    """One reconstruction against one truth; dB for PSNR, [-1, 1] for SSIM.

    Attributes
    ----------
    psnr_frames, ssim_frames
        Per frame, in order; of each the best and the median frame are written too.
    baselines
        Whole-clip PSNR of each blind guess, by name (grey, gallery mean, best constant, reference copy).
    gain
        Whole-clip PSNR less the best blind baseline.
    motion
        PSNR of the motion residual (each frame less the clip's mean frame).
    motion_gain
        `motion` less what a motionless clip would score.
    rank
        1 is the true clip on top of the gallery; `gallery` is how many candidates there were.
    bits
        Canary bits read correctly, or None. With reference frames chance is what their copy reads.
    copy
        The reference frames by themselves; None for an attacker without.
    motion_correlation
        Pearson's correlation of frame differences, in [-1, 1].
    rank_same_scene, same_scene
        Rank among the gallery's `same_scene` candidates of the same camera alone; None where there are none.
    perceptual, perceptual_blind
        Perceptual distance (0 equal, about 1 another scene) of the reconstruction, and of the blind guess that looks
        most like the truth; None where it was not measured.
    lpips, lpips_blind
        The same by LPIPS, where the user has its weights.
    z
        Similarity to the truth in deviations of clips with the same strengths of modes and random signs.
    embedding_rank
        As `rank`, by embeddings of a public network; None where it was not measured, as for canaries.
    content
        How well the detail of what moves agrees, in [-1, 1]: persons can be made out from `VISIBLE_CONTENT` on. None in
        documents of versions that did not measure it.
    rank_scenes
        Rank among candidates of other scenes alone: 1 says which scene it is, `rank` 1 which moment too.
    """

    psnr: Decibel
    psnr_frames: tuple[Decibel, ...]
    ssim_frames: tuple[Measured, ...]
    baselines: Mapping[str, Decibel]
    gain: Decibel
    motion: Decibel
    motion_gain: Decibel
    rank: int
    gallery: int
    bits: Interval | None = None
    copy: Later[CopyScore | None] = None
    motion_correlation: Later[Measured] = 0.0
    rank_same_scene: Later[int | None] = None
    same_scene: Later[int] = 0
    z: Later[Measured] = 0.0
    perceptual: Later[Measured | None] = None
    perceptual_blind: Later[Measured | None] = None
    lpips: Later[Measured | None] = None
    lpips_blind: Later[Measured | None] = None
    embedding_rank: Later[int | None] = None
    content: Later[Measured | None] = None
    rank_scenes: Later[int | None] = None

    @derived
    def psnr_best(self) -> Decibel:
        """PSNR of the best frame."""
        return max(self.psnr_frames)

    @derived
    def psnr_median(self) -> Decibel:
        """PSNR of the median frame."""
        return statistics.median(self.psnr_frames)

    @derived
    def ssim_best(self) -> Measured:
        """SSIM of the best frame."""
        return max(self.ssim_frames)

    @derived
    def ssim_median(self) -> Measured:
        """SSIM of the median frame."""
        return statistics.median(self.ssim_frames)


@record
class Retrieval:
    """How well reconstructions point to their true clips in a gallery, over several of them.

    Attributes
    ----------
    recall_1, recall_5
        Recall@1 and Recall@5; chance is 1/N and 5/N, the truth counted in N.
    mean_rank, chance_rank
        The mean, and what it is by chance: (N + 1) / 2.
    tail
        How often chance does as well or better in the mean rank: the exact one-sided probability.
    independent
        False where the audited model is built on the network that embeds: no evidence then.
    """

    gallery: int
    recall_1: Interval
    recall_5: Interval
    mean_rank: float
    chance_rank: float
    tail: float
    independent: bool = True


@record
class FaceMatch:
    """The pair of faces, one of the truth and one of the estimate, that are most alike.

    Attributes
    ----------
    distance
        Between their embeddings of 128 numbers; the same person is usually below 0.52, another above 0.76.
    same
        Whether it is within `SAME_PERSON`, which accepts at most 1.24% of strangers (`FALSE_ACCEPT`).
    truth_faces, faces
        How many were found in the frames that were looked at.
    reason
        Why nothing was compared; all else is None then.
    """

    distance: Measured | None = None
    same: bool | None = None
    truth_faces: int | None = None
    faces: int | None = None
    reason: LongName = ""


@record
class Exposure:
    """Mode exposure of a set of layers: what a linear attacker with a natural-clip prior could know.

    `psnr` is the predicted PSNR (dB) at noise `sigma` (relative to the root-mean-square of the layer's gradient),
    `ceiling` the same at float32 rounding, `prior` with no update at all. All modes of a clip are measured, by a
    limited number of products with the Jacobian: at `sigma` the exact value lies between `psnr` and `at_most`, and
    `determined` is the share of the prior variance that the update determines at least.

    Documents of earlier versions have no `at_most`. In them only leading modes of a clip were measured, `cap` is the
    PSNR that is predicted when all of these are determined, and `determined` is told of these.
    """

    psnr: Decibel
    ceiling: Decibel
    prior: Decibel
    sigma: Measured
    cap: Later[Decibel | None] = None
    determined: Later[Share | None] = None
    at_most: Later[Decibel | None] = None
