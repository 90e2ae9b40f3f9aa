"""What moves can be made out, or only the place where it moved."""

import math

import pytest
import torch
from torch.nn import functional

from auditor.probe import camera, shipped_probes
from auditor.records import InputSpec
from auditor.results.scores import VISIBLE_CONTENT as VISIBLE
from auditor.score import psnr
from auditor.score.content import content

SPEC = InputSpec(frames=8, channels=3, height=32, width=32, layout="NCTHW")


@pytest.fixture(scope="module")
def clips():
    return {probe.name: probe.clip for probe in shipped_probes(SPEC)}


def noise(level, shape=SPEC.clip_shape):
    return level * torch.randn(shape, generator=torch.Generator().manual_seed(0))


def walker(size=32):
    """A person of a few pixels who crosses a textured street, and the empty street."""
    street = torch.rand((3, size, size), generator=torch.Generator().manual_seed(3)).mul(0.6)
    empty = street.repeat(8, 1, 1, 1)
    clip = empty.clone()
    for t in range(8):
        left = t * size // 10
        clip[t, :, size // 3 : 2 * size // 3, left : left + size // 10] = torch.tensor([0.9, 0.2, 0.1])[:, None, None]
    return clip, empty


@pytest.mark.parametrize("size", [32, 64, 112])
def test_an_empty_street_shows_no_person_although_it_is_close(size):
    clip, empty = walker(size)
    assert float(psnr(clip, empty)) > 15
    assert content(clip, empty) < 0.5
    assert content(clip, clip) == pytest.approx(1.0)
    # The person alone, the street lost to grey.
    person = torch.where(clip == empty, torch.tensor(0.5), clip)
    assert content(clip, person) > VISIBLE


def test_one_clear_frame_is_enough(clips):
    for name in ("treadmill_two", "hand_cup"):
        made = functional.avg_pool2d(clips[name], 15, 1, 7)
        assert content(clips[name], made) < VISIBLE
        made[4] = clips[name][4]
        assert content(clips[name], made) > 0.99


def test_a_frame_before_the_person_enters_shows_no_person():
    clip, empty = walker()
    clip[:5] = empty[:5]
    made = functional.avg_pool2d(clip, 15, 1, 7)
    made[:5] = empty[:5]
    assert content(clip, made) < VISIBLE


def test_brightness_and_contrast_do_not_matter_and_noise_and_blur_do(clips):
    for clip in clips.values():
        washed = 0.3 + 0.4 * clip
        assert content(clip, washed) > 0.99
        little, much = (content(clip, (clip + noise(level)).clamp(0, 1)) for level in (0.02, 0.4))
        assert little > 0.9 > much
        assert content(clip, functional.avg_pool2d(clip, 9, 1, 4)) < VISIBLE


def test_other_scenes_are_far_below_the_line(clips):
    pairs = [(a, b) for a in clips for b in clips if camera(a) != camera(b)]
    assert max(content(clips[a], clips[b]) for a, b in pairs) < VISIBLE - 0.15


def test_what_has_no_detail_shows_nothing(clips):
    for clip in clips.values():
        assert content(clip, torch.full_like(clip, 0.5)) == 0.0
        assert content(clip, torch.full_like(clip, math.nan)) == 0.0
        assert content(torch.full_like(clip, 0.5), clip) == 0.0


def test_a_clip_in_which_nothing_moves_counts_everywhere(clips):
    still = clips["city_night"][:1].expand(SPEC.clip_shape)
    assert content(still, still) == pytest.approx(1.0)
    half = still.clone()
    half[..., 16:] = 0.5
    assert 0.2 < content(still, half) < 0.95


def test_it_is_the_weighted_correlation_of_details_by_hand():
    clip = torch.rand((3, 1, 12, 12), generator=torch.Generator().manual_seed(1))
    made = (clip + noise(0.2, clip.shape)).clamp(0, 1)
    median = clip.median(0).values
    values, motions = [], []
    for true, seen in zip(clip, made, strict=True):
        weight = _dense_blur((true - median).square()[0], 12 / 32) + 1e-6
        a, b = (x[0] - _dense_blur(x[0], 12 / 8) for x in (true, seen))
        values.append(float((weight * a * b).sum() / ((weight * a * a).sum() * (weight * b * b).sum()).sqrt()))
        motions.append(float(weight.mean()))
    least = 0.1 * sum(motions) / len(motions)
    wanted = max(v for v, m in zip(values, motions, strict=True) if m >= least)
    assert content(clip, made) == pytest.approx(wanted, abs=1e-4)


def _dense_blur(image, sigma):
    """Blur by a full matrix over both axes; beyond its edge the image goes on as it ends."""
    n, reach = len(image), int(3 * sigma + 1)
    matrix = torch.zeros(n, n)
    for row in range(n):
        for step in range(-reach, reach + 1):
            matrix[row, min(n - 1, max(0, row + step))] += math.exp(-((step / sigma) ** 2) / 2)
    matrix /= matrix.sum(1, keepdim=True)
    return matrix @ image @ matrix.T


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match="shapes differ"):
        content(torch.zeros(2, 3, 8, 8), torch.zeros(2, 3, 8, 9))
