import itertools
import math

import pytest
import torch

from auditor.probe import canary, gallery, shipped_probes
from auditor.records import InputSpec
from auditor.score.baselines import blind_guesses
from auditor.score.clip import score_clip
from auditor.score.motion import motion_correlation, motion_psnr, motionless_psnr
from auditor.score.pairing import pair
from auditor.score.psnr import psnr
from auditor.score.retrieval import rank_among, similarities
from auditor.score.ssim import ssim_frames

SPEC = InputSpec(frames=8, channels=3, height=32, width=32, layout="NCTHW")


@pytest.fixture(scope="module")
def candidates():
    return gallery(SPEC).clips


@pytest.fixture(scope="module")
def probes():
    return shipped_probes(SPEC)


def noise(seed):
    return torch.rand(SPEC.clip_shape, generator=torch.Generator().manual_seed(seed))


def test_blind_guesses_by_name(candidates):
    guesses = blind_guesses(candidates, (32, 32))
    assert list(guesses) == ["grey", "gallery mean", "mean colour", "typical clip"]
    assert all(guess.shape == SPEC.clip_shape for guess in guesses.values())
    assert guesses["grey"].unique().tolist() == [0.5]
    assert torch.allclose(guesses["gallery mean"], candidates.double().mean(0).float(), atol=1e-6)
    colour = guesses["mean colour"]
    assert colour.flatten(2).std(-1).max() == 0
    assert torch.allclose(colour[0, :, 0, 0], candidates.double().mean((0, 1, 3, 4)).float(), atol=1e-6)


def test_the_typical_clip_is_the_one_nearest_to_the_mean(candidates):
    typical = blind_guesses(candidates, (32, 32))["typical clip"]
    apart = (candidates - candidates.mean(0)).square().flatten(1).mean(1)
    assert torch.equal(typical, candidates[int(apart.argmin())])


def test_the_true_mean_colour_is_the_best_shift_of_the_mean_clip(candidates, probes):
    for probe in probes:
        guesses = blind_guesses(candidates, (32, 32), truth=probe.clip)
        known = guesses["gallery mean, true colour"]
        assert torch.allclose(known.mean((0, 2, 3)), probe.clip.mean((0, 2, 3)), atol=0.02)
        assert float(psnr(probe.clip, known)) >= float(psnr(probe.clip, guesses["gallery mean"]))


def test_gallery_mean_is_the_best_constant_clip_in_square_error(candidates):
    guesses = blind_guesses(candidates, (32, 32))
    error = {name: float((candidates - guess).square().mean()) for name, guess in guesses.items()}
    assert error["gallery mean"] < error["mean colour"] <= error["grey"]
    moved = guesses["gallery mean"] + 0.01 * torch.randn(SPEC.clip_shape, generator=torch.Generator().manual_seed(0))
    assert float((candidates - moved).square().mean()) > error["gallery mean"]


def test_reference_frames_are_held_or_interpolated(candidates, probes):
    clip = probes[0].clip
    held = blind_guesses(candidates, (32, 32), clip[:1])["reference copy"]
    assert torch.equal(held, clip[:1].expand_as(clip))
    every = blind_guesses(candidates, (32, 32), clip)["reference copy"]
    assert torch.equal(every, clip)
    ends = blind_guesses(candidates, (32, 32), clip[[0, 7]])["reference copy"]
    assert torch.allclose(ends[2], clip[0] + (clip[7] - clip[0]) * 2 / 7, atol=1e-6)


def test_a_smaller_gallery_is_enlarged(candidates):
    guesses = blind_guesses(candidates[..., ::2, ::2], (32, 32), noise(1)[:1, :, ::2, ::2])
    assert {guess.shape for guess in guesses.values()} == {torch.Size(SPEC.clip_shape)}


def test_a_perfect_reconstruction(candidates, probes):
    score = score_clip(probes[0], probes[0].clip, candidates)
    assert score.psnr == score.gain == score.motion == score.motion_gain == math.inf
    assert score.psnr_frames == (math.inf,) * 8
    assert score.ssim_frames == pytest.approx((1,) * 8)
    assert (score.rank, score.gallery) == (1, 85)
    assert score.bits is None


@pytest.mark.parametrize("name", ["grey", "gallery mean", "mean colour", "typical clip", "gallery mean, true colour"])
def test_a_blind_guess_gains_nothing(candidates, probes, name):
    for probe in probes:
        guess = blind_guesses(candidates, (32, 32), truth=probe.clip)[name]
        score = score_clip(probe, guess, candidates)
        assert score.gain <= 1e-4
        assert score.rank == score.gallery or (name in ("typical clip", "gallery mean, true colour") and score.rank > 1)
        assert score.baselines[name] == pytest.approx(score.psnr, abs=1e-3)


def test_copying_the_reference_frame_gains_nothing(candidates, probes):
    held = probes[0].clip[:1].expand_as(probes[0].clip)
    assert score_clip(probes[0], held, candidates).gain > 1
    score = score_clip(probes[0], held, candidates, reference=probes[0].clip[:1])
    assert score.gain == pytest.approx(0)
    assert score.motion_gain == pytest.approx(0)


def test_gain_is_against_the_best_baseline(candidates, probes):
    estimate = (probes[1].clip + 0.1 * (noise(1) - 0.5)).clamp(0, 1)
    score = score_clip(probes[1], estimate, candidates)
    best = max(
        float(psnr(probes[1].clip, g)) for g in blind_guesses(candidates, (32, 32), truth=probes[1].clip).values()
    )
    assert score.gain == pytest.approx(float(psnr(probes[1].clip, estimate)) - best)
    assert score.rank == 1
    assert min(score.psnr_frames) <= score.psnr <= max(score.psnr_frames)


def test_canaries_are_counted_in_bits(candidates):
    probe = canary(SPEC, 5)
    crowd = gallery(SPEC, probe).clips
    whole = score_clip(probe, probe.clip, crowd).bits
    assert (whole.hits, whole.trials, whole.chance) == (120, 120, 0.5)
    assert whole.low == pytest.approx(0.025 ** (1 / 120))
    blank = score_clip(probe, torch.full(SPEC.clip_shape, 0.5), crowd).bits
    assert blank.low < 0.5 < blank.high


def test_what_diverged_gets_a_bad_score_and_no_error(candidates, probes):
    for value in (math.nan, math.inf, -math.inf, 7.0):
        score = score_clip(probes[0], torch.full(SPEC.clip_shape, value), candidates)
        assert math.isfinite(score.psnr)
        assert score.rank == 85
    with pytest.raises((ValueError, TypeError), match=r"shapes differ|Type-check error"):
        score_clip(probes[0], probes[0].clip[:4], candidates)


def test_estimates_may_carry_gradients(candidates, probes):
    assert score_clip(probes[0], noise(1).requires_grad_(), candidates).psnr < 15


def test_pairing_undoes_a_permutation(probes):
    truths = torch.stack([probe.clip for probe in probes])
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
    shuffled = (truths + 0.1 * (noise(1) - 0.5))[order]
    assert torch.equal(order[list(pair(truths, shuffled))], torch.arange(7))


def test_pairing_is_the_best_of_all_permutations():
    for seed in range(10):
        generator = torch.Generator().manual_seed(seed)
        truths, estimates = torch.rand(2, 4, 2, 1, 2, 2, generator=generator)
        cost = (truths[:, None] - estimates[None]).square().sum((2, 3, 4, 5)).double()

        def total(order, cost=cost):
            return sum(float(cost[i, j]) for i, j in enumerate(order))

        assert total(pair(truths, estimates)) == pytest.approx(min(map(total, itertools.permutations(range(4)))))


def test_pairing_takes_a_diverged_clip_and_refuses_other_shapes(probes):
    truths = torch.stack([probe.clip for probe in probes[:2]])
    estimates = truths.flip(0).clone()
    estimates[0] = math.nan
    assert pair(truths, estimates) == (1, 0)
    with pytest.raises((ValueError, TypeError), match=r"shapes differ|Type-check error"):
        pair(truths, truths[:1])


def test_every_number_of_a_score_is_the_one_of_its_own_function(candidates, probes):
    truth, places = probes[0], (0, 2)
    made = (0.05 * truth.clip + 0.9 * noise(4)).clamp(0, 1)
    score = score_clip(truth, made, candidates, same_scene=places)
    similar = similarities(truth.clip, made, candidates)
    assert score.psnr == pytest.approx(float(psnr(truth.clip, made)))
    assert score.psnr_frames == pytest.approx([float(psnr(a, b)) for a, b in zip(truth.clip, made, strict=True)])
    assert score.ssim_frames == pytest.approx(ssim_frames(truth.clip, made).tolist())
    assert score.gain == pytest.approx(score.psnr - max(score.baselines.values()))
    assert score.motion == pytest.approx(motion_psnr(truth.clip, made))
    assert score.motion_gain == pytest.approx(score.motion - motionless_psnr(truth.clip))
    assert score.motion_correlation == pytest.approx(motion_correlation(truth.clip, made))
    assert (score.rank, score.gallery) == (rank_among(similar), len(candidates) + 1)
    assert (score.rank_same_scene, score.same_scene) == (rank_among(similar, places), 2)
    assert score.rank != score.rank_same_scene
    numbers = (score.psnr, score.gain, score.motion, score.motion_gain, score.motion_correlation)
    assert min(abs(a - b) for a, b in itertools.combinations(numbers, 2)) > 1e-3
