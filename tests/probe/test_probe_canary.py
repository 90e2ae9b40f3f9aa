import pickle

import pytest
import torch
from scipy import stats
from torch.nn import functional

from auditor.errors import UsageError
from auditor.probe import canary, moving_texture
from auditor.probe.canary import _patterns, bits, paint, scales
from auditor.records import InputSpec

SHAPES = [
    (8, 3, 32, 32),
    (16, 3, 112, 112),
    (5, 1, 30, 45),
    (3, 3, 17, 33),
    (1, 3, 32, 32),
    (2, 1, 2, 2),
    (7, 3, 64, 20),
]


def spec(frames=8, channels=3, height=32, width=32):
    return InputSpec(frames=frames, channels=channels, height=height, width=width, layout="NCTHW")


def right(probe, clip):
    return sum(a == b for a, b in zip(probe.decode(clip), probe.payload, strict=True)) / len(probe.payload)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_truth_gives_every_bit(shape):
    for seed in range(3):
        probe = canary(spec(*shape), seed)
        assert probe.clip.shape == shape
        assert 0 <= probe.clip.min() <= probe.clip.max() <= 1
        assert len(probe.payload) == bits(spec(*shape))
        assert probe.decode(probe.clip) == probe.payload


def test_a_small_clip_carries_some_hundred_bits():
    assert bits(spec()) == 120


@pytest.mark.parametrize("shape", SHAPES)
def test_patterns_of_all_scales_are_orthogonal(shape):
    s = spec(*shape)
    patterns = torch.cat(
        [torch.einsum("t,ih,jw->ijthw", *_patterns(s, scale)).flatten(0, 1).flatten(1) for scale in scales(s)]
    )
    gram = patterns @ patterns.T
    assert gram.diag().min() > 0
    assert (gram - gram.diag().diag()).abs().max() < 1e-9
    assert patterns.sum(1).abs().max() < 1e-9


def test_grey_and_other_blank_clips_give_chance_whatever_the_payload():
    count = trials = 0
    for seed in range(30):
        probe = canary(spec(), seed)
        for level in (0.0, 0.3, 0.5, 1.0):
            read = probe.decode(torch.full(spec().clip_shape, level))
            assert 0.25 < sum(read) / len(read) < 0.75, "ties must not all fall on one side"
        count += round(right(probe, torch.full(spec().clip_shape, 0.5)) * 120)
        trials += 120
    assert stats.binomtest(count, trials, 0.5).pvalue > 0.001


@pytest.mark.parametrize("kind", ["noise", "texture", "another canary"])
def test_clips_without_the_payload_give_chance(kind):
    count = trials = 0
    for seed in range(40):
        probe = canary(spec(), seed)
        clip = {
            "noise": torch.rand(spec().clip_shape, generator=torch.Generator().manual_seed(seed)),
            "texture": moving_texture(spec(), seed).clip,
            "another canary": canary(spec(), seed + 1000).clip,
        }[kind]
        count += round(right(probe, clip) * 120)
        trials += 120
    assert stats.binomtest(count, trials, 0.5).pvalue > 0.001


def test_coarse_bits_survive_blur_and_noise_longest():
    coarse = scales(spec())[0].grid ** 2 + scales(spec())[1].grid ** 2
    first, last = [], []
    for seed in range(10):
        probe = canary(spec(), seed)
        noise = 0.2 * torch.randn(probe.clip.shape, generator=torch.Generator().manual_seed(seed))
        damaged = functional.avg_pool2d(probe.clip + noise, 5, 1, 2, count_include_pad=False)
        agree = [a == b for a, b in zip(probe.decode(damaged), probe.payload, strict=True)]
        first += agree[:coarse]
        last += agree[-64:]
    assert sum(first) / len(first) > 0.97
    assert sum(last) / len(last) < sum(first) / len(first) - 0.1


def test_brightness_and_contrast_do_not_matter():
    probe = canary(spec(), 4)
    assert probe.decode(0.3 + 0.1 * probe.clip) == probe.payload


def test_the_payload_is_random_and_not_the_ties():
    ones = [sum(canary(spec(), seed).payload) for seed in range(50)]
    assert stats.binomtest(sum(ones), 50 * 120, 0.5).pvalue > 0.001
    assert len({canary(spec(), seed).payload for seed in range(50)}) == 50


def test_a_canary_is_deterministic_and_travels_between_processes():
    probe = canary(spec(), 9)
    assert torch.equal(probe.clip, canary(spec(), 9).clip)
    assert torch.equal(probe.clip, paint(spec(), probe.payload))
    assert pickle.loads(pickle.dumps(probe.decode))(probe.clip) == probe.payload


def test_a_frame_of_one_column_carries_nothing():
    with pytest.raises(UsageError, match="1 pixel"):
        canary(spec(width=1), 0)


@pytest.mark.parametrize("shape", [(8, 3, 32, 32), (6, 1, 20, 30), (1, 3, 8, 8)])
def test_textures_span_the_range_and_differ_by_seed(shape):
    texture = moving_texture(spec(*shape), 1).clip
    assert texture.shape == shape
    assert (float(texture.min()), float(texture.max())) == (0, 1)
    assert torch.equal(texture, moving_texture(spec(*shape), 1).clip)
    assert not torch.allclose(texture, moving_texture(spec(*shape), 2).clip)


def test_textures_move_as_a_whole():
    clip = moving_texture(spec(8, 1, 64, 64), 5).clip[:, 0].double()
    # Translation of a periodic frame changes the phases of its spectrum, never the magnitudes.
    spectrum = torch.fft.fft2(clip - clip.mean((1, 2), keepdim=True)).abs()
    assert (spectrum[1:] - spectrum[0]).abs().max() < 1e-4 * spectrum.max()
    assert clip.diff(dim=0).abs().mean() > 0.01


def test_textures_are_band_limited():
    clip = moving_texture(spec(2, 1, 64, 64), 5).clip[0, 0].double()
    power = torch.fft.fft2(clip - clip.mean()).abs().square()
    cycles = torch.fft.fftfreq(64) * 64
    radius = (cycles[:, None] ** 2 + cycles[None, :] ** 2).sqrt()
    assert power[radius > 7].sum() < 1e-6 * power.sum()
