import math

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from auditor.score.motion import motion_correlation, motion_gain, motion_psnr, motionless_psnr
from auditor.score.psnr import psnr
from auditor.score.ssim import ssim_frames


def clip(seed, shape=(4, 3, 24, 31)):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def smooth(seed, shape=(4, 3, 24, 31)):
    small = clip(seed, (*shape[:2], 5, 6))
    return torch.nn.functional.interpolate(small, shape[2:], mode="bilinear")


def near(truth, seed, amount=0.1):
    return (truth + amount * torch.randn(truth.shape, generator=torch.Generator().manual_seed(seed))).clamp(0, 1)


@pytest.mark.parametrize("seed", range(3))
def test_psnr_agrees_with_scikit_image(seed):
    truth, estimate = clip(seed), near(clip(seed), seed + 9)
    wanted = peak_signal_noise_ratio(truth.double().numpy(), estimate.double().numpy(), data_range=1)
    assert float(psnr(truth, estimate)) == pytest.approx(wanted, abs=1e-9)
    frames = [peak_signal_noise_ratio(a.numpy(), b.numpy(), data_range=1) for a, b in zip(truth, estimate, strict=True)]
    assert psnr(truth, estimate, dim=(1, 2, 3)).tolist() == pytest.approx(frames, abs=1e-4)


def test_psnr_closed_forms():
    truth = torch.full((2, 3, 4, 5), 0.5, dtype=torch.float64)
    assert float(psnr(truth, truth + 0.01)) == pytest.approx(40)
    assert float(psnr(truth, truth)) == math.inf
    assert psnr(truth, truth, dim=(1, 2, 3)).tolist() == [math.inf] * 2
    # Pooled over frames it is the mean of errors, not of decibels.
    uneven = truth + torch.tensor([0.1, 0.001])[:, None, None, None]
    assert float(psnr(truth, uneven)) == pytest.approx(-10 * math.log10((1e-2 + 1e-6) / 2))


def test_shapes_must_agree_and_are_never_broadcast():
    for metric in (psnr, ssim_frames):
        with pytest.raises((ValueError, TypeError), match=r"shapes differ|Type-check error"):
            metric(torch.zeros(2, 3, 16, 16), torch.zeros(1, 3, 16, 16))


@pytest.mark.parametrize("shape", [(2, 3, 24, 31), (1, 1, 11, 11), (2, 1, 11, 40), (1, 3, 64, 48)])
@pytest.mark.parametrize("make", [clip, smooth])
def test_ssim_agrees_with_scikit_image(shape, make):
    truth = make(1, shape)
    estimates = [near(truth, 2), near(truth, 3, 0.5), torch.full(shape, 0.5), 1 - truth, truth * 0.5]
    for estimate in estimates:
        wanted = [
            structural_similarity(
                a.double().numpy(),
                b.double().numpy(),
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
                data_range=1,
                channel_axis=0,
            )
            for a, b in zip(truth, estimate, strict=True)
        ]
        assert ssim_frames(truth, estimate).tolist() == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("side", [(7, 7), (4, 6), (1, 1), (2, 30)])
def test_ssim_of_small_frames_is_the_formula_on_a_smaller_window(side):
    truth, estimate = clip(1, (1, 1, *side)), clip(2, (1, 1, *side))
    taps = [min(11, n - 1 + n % 2) for n in side]
    kernels = [np.exp(-0.5 * ((np.arange(n) - n // 2) / 1.5) ** 2) for n in taps]
    window = np.outer(*[k / k.sum() for k in kernels])
    values = []
    x, y = (c[0, 0].double().numpy() for c in (truth, estimate))
    for i in range(side[0] - taps[0] + 1):
        for j in range(side[1] - taps[1] + 1):
            a, b = (z[i : i + taps[0], j : j + taps[1]] for z in (x, y))
            ma, mb = (window * a).sum(), (window * b).sum()
            va, vb = (window * (a - ma) ** 2).sum(), (window * (b - mb) ** 2).sum()
            cov = (window * (a - ma) * (b - mb)).sum()
            values.append((2 * ma * mb + 1e-4) * (2 * cov + 9e-4) / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4)))
    assert float(ssim_frames(truth, estimate)) == pytest.approx(np.mean(values), abs=1e-9)


def test_ssim_is_one_for_equal_frames_and_a_matter_of_each_frame():
    truth = smooth(1)
    estimate = truth.clone()
    estimate[2] = clip(5)[2]
    values = ssim_frames(truth, estimate)
    assert values[[0, 1, 3]].tolist() == pytest.approx([1, 1, 1])
    assert values[2] < 0.5


def test_motion_of_a_motionless_guess_is_no_gain():
    truth = smooth(1)
    still = truth.mean(0, keepdim=True).expand_as(truth)
    assert motion_psnr(truth, still) == pytest.approx(motionless_psnr(truth))
    assert motion_gain(truth, still) == pytest.approx(0)
    assert motion_gain(truth, torch.full_like(truth, 0.2)) == pytest.approx(0)
    # The variance over time, averaged over pixels, is the whole error (numpy as a witness).
    wanted = -10 * math.log10(truth.double().numpy().var(axis=0).mean())
    assert motionless_psnr(truth) == pytest.approx(wanted, abs=1e-6)


def test_the_mean_frame_scores_well_without_any_motion():
    background = smooth(1, (1, 3, 24, 31)).expand(8, -1, -1, -1)
    truth = near(background, 3, 0.02)
    still = truth.mean(0, keepdim=True).expand_as(truth)
    assert float(psnr(truth, still)) > 30
    assert motion_gain(truth, still) == pytest.approx(0)


def test_motion_is_told_from_background():
    truth = smooth(1) * 0.5
    on_another_background = truth + 0.3
    assert motion_gain(truth, on_another_background) > 50
    assert motion_gain(truth, truth.flip(0)) < 0
    assert motion_correlation(truth, on_another_background) == pytest.approx(1)


def test_a_motionless_truth_has_no_motion_to_leak():
    truth = smooth(1, (1, 3, 24, 31)).expand(4, -1, -1, -1)
    assert motion_gain(truth, clip(3)) == 0
    assert motion_correlation(truth, clip(3)) == 0
    assert motion_correlation(truth[:1], clip(3)[:1]) == 0
    assert motion_gain(truth[:1], clip(3)[:1]) == 0


def test_motion_correlation_agrees_with_numpy():
    truth, estimate = clip(1), near(clip(1), 2, 0.3)
    wanted = np.corrcoef(np.diff(truth.double(), axis=0).ravel(), np.diff(estimate.double(), axis=0).ravel())[0, 1]
    assert motion_correlation(truth, estimate) == pytest.approx(wanted, abs=1e-12)
    assert motion_correlation(truth, 1 - truth) == pytest.approx(-1)
