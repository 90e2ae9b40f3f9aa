"""Fusion on clips whose motion is known: what it finds, what it gains, and that it does no harm."""

import pytest
import torch
from torch.nn import functional

from auditor.enhance import DatLight, Fusion, bicubic
from auditor.enhance.fusion import denoised, register
from auditor.enhance.motion import flow, warped
from auditor.probe.real import manifest, shipped_frames

FRAMES = 5


def db(a, b):
    return float(-10 * (a - b).square().mean().log10())


def down(clip, scale):
    side = [n // scale for n in clip.shape[-2:]]
    return functional.interpolate(clip, side, mode="bicubic", align_corners=False, antialias=True).clamp(0, 1)


@pytest.fixture(scope="module")
def scene():
    """One sharp frame, (1, 3, 96, 96)."""
    return shipped_frames(manifest()[0])[8:9, :, 8:104, 8:104]


@pytest.fixture(scope="module")
def panning(scene):
    """(truth of 64 x 64, frames of 32 x 32) of a camera that moves a whole fine pixel a frame: half a coarse one."""
    truth = torch.cat([scene[..., 10 : 10 + 64, 6 + t : 6 + t + 64] for t in range(FRAMES)])
    return truth, down(truth, 2)


def test_the_flow_of_a_known_shift_is_that_shift(scene):
    smooth = functional.avg_pool2d(scene, 5, stride=1)
    shift = torch.zeros(1, 2, *smooth.shape[-2:])
    shift[:, 0], shift[:, 1] = 0.4, -1.3
    moved = warped(smooth, shift)
    found = flow(moved, smooth)[..., 8:-8, 8:-8]
    assert float((found - shift[..., 8:-8, 8:-8]).square().mean().sqrt()) < 0.06  # measured 0.02


def test_fusion_beats_bicubic_where_frames_are_shifted_by_half_a_pixel(panning):
    truth, small = panning
    inner = (..., slice(6, -6), slice(6, -6))
    gain = db(truth[inner], Fusion(2)(small).clip[inner]) - db(truth[inner], bicubic(small, 2).clip[inner])
    assert gain > 1.2  # measured 1.54
    middle = truth[2:3][inner]
    fused, alone = (db(middle, frame[inner]) for frame in (Fusion(2)(small).clip[2:3], Fusion(2)(small[2:3]).clip))
    assert fused > alone + 0.4  # measured 0.79: the other frames tell what one frame does not


def test_a_still_clip_is_not_harmed(scene):
    truth = scene[..., 16:80, 16:80].expand(FRAMES, -1, -1, -1)
    small = down(truth, 2)
    assert db(truth, Fusion(2)(small).clip) > db(truth, bicubic(small, 2).clip)


def test_unrelated_frames_are_told_and_cost_little():
    noise = torch.rand(FRAMES, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    truth = bicubic(noise, 2).clip
    made = Fusion(2)(noise)
    assert made.method == "multi-frame fusion (no frame could be registered to another)"
    assert made.clip.shape == (FRAMES, 3, 32, 32)
    assert torch.isfinite(made.clip).all()
    assert db(truth, made.clip) > 15


def test_noise_costs_fusion_no_more_than_a_fraction_of_a_db(panning):
    truth, small = panning
    noisy = (small + 0.05 * torch.randn(small.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
    assert db(truth, Fusion(2)(noisy).clip) > db(truth, bicubic(noisy, 2).clip) - 0.2


def test_one_frame_one_channel_and_scale_four():
    clip = torch.linspace(0, 1, 8 * 12).reshape(1, 1, 8, 12)
    made = Fusion(4)(clip)
    assert made.clip.shape == (1, 1, 32, 48)
    assert "no frame" in made.method
    assert 0 <= made.clip.min() <= made.clip.max() <= 1


def test_averaging_takes_noise_away_and_leaves_clean_clips_alone(panning):
    _, small = panning
    noisy = (small + 0.05 * torch.randn(small.shape, generator=torch.Generator().manual_seed(2))).clamp(0, 1)
    assert db(small, denoised(noisy, register(noisy))) > db(small, noisy) + 1.5
    assert db(small, denoised(small, register(small))) > 35


def test_averaging_before_the_network_helps_where_there_is_noise(panning):
    truth, small = panning
    noisy = (small + 0.05 * torch.randn(small.shape, generator=torch.Generator().manual_seed(3))).clamp(0, 1)
    alone, after = DatLight(2, register_first=False)(noisy).clip, DatLight(2)(noisy).clip
    assert db(truth, after) > db(truth, alone) + 1.0


def test_an_estimate_grows_with_the_clip():
    assert Fusion(2).seconds_estimate((4, 1, 8, 8)) > 0
