"""All numbers of one reconstruction against one truth."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from auditor.records import Clip, Probe
from auditor.results.scores import ClipScore, Interval
from auditor.score.baselines import blind_guesses
from auditor.score.content import content
from auditor.score.copied import score_copy
from auditor.score.intervals import bits_interval
from auditor.score.motion import motion_correlation, motion_gain, motion_psnr
from auditor.score.psnr import psnr
from auditor.score.retrieval import rank_among, similarities, z_score
from auditor.score.shapes import check_shapes
from auditor.score.ssim import ssim_frames


def score_clip(
    truth: Probe,
    estimate: Clip,
    gallery: Float[Tensor, "candidate frame channel rows columns"],
    reference: Float[Tensor, "shown channel ref_rows ref_columns"] | None = None,
    same_scene: Sequence[int] = (),
) -> ClipScore:
    """Score `estimate` (frame, channel, height, width) against `truth.clip`.

    `gallery` holds the candidates without the truth; `reference` the frames of the scene that this attacker was given.
    `same_scene` are the places in the gallery of other moments and views of the same camera.
    Values outside [0, 1] are clipped, and NaN counts as mid-grey: a diverged attack gets a score, a bad one.

    Raises
    ------
    ValueError
        The shapes differ.
    """
    clip, gallery = truth.clip.cpu(), gallery.cpu()
    estimate = estimate.detach().cpu().float().nan_to_num(0.5).clamp(0, 1)
    check_shapes(estimate, clip)
    whole = float(psnr(clip, estimate))
    shown = None if reference is None or not len(reference) else reference.detach().cpu()
    guesses = blind_guesses(gallery, (clip.shape[-2], clip.shape[-1]), shown, clip)
    baselines = {name: float(psnr(clip, guess)) for name, guess in guesses.items()}
    copy = None if shown is None else score_copy(truth, estimate, shown)
    similar = similarities(clip, estimate, gallery)
    other_scenes = sorted(set(range(len(gallery))) - set(same_scene))
    return ClipScore(
        psnr=whole,
        psnr_frames=tuple(psnr(clip, estimate, dim=(1, 2, 3)).tolist()),
        ssim_frames=tuple(ssim_frames(clip, estimate).tolist()),
        baselines=baselines,
        gain=_gain(whole, max(baselines.values())),
        motion=motion_psnr(clip, estimate),
        motion_gain=motion_gain(clip, estimate),
        rank=rank_among(similar),
        gallery=len(gallery) + 1,
        bits=_bits(truth, estimate, 0 if copy is None else copy.bits or 0),
        copy=copy,
        motion_correlation=motion_correlation(clip, estimate),
        z=z_score(clip, estimate, gallery),
        rank_same_scene=rank_among(similar, same_scene) if len(same_scene) else None,
        same_scene=len(same_scene),
        content=content(clip, estimate),
        rank_scenes=rank_among(similar, other_scenes),
    )


def _gain(score: float, best_guess: float) -> float:
    """Return the difference in dB; 0 where a blind guess is the truth itself."""
    return 0.0 if best_guess == float("inf") else score - best_guess


def _bits(truth: Probe, estimate: Clip, copied: int) -> Interval | None:
    if truth.payload is None or truth.decode is None:
        return None
    read, bits = truth.decode(estimate), len(truth.payload)
    return bits_interval(sum(a == b for a, b in zip(read, truth.payload, strict=True)), bits, copied / bits)
