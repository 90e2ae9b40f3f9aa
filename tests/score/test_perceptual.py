"""The perceptual distance against an implementation written out once more, and on distortions of real clips."""

import math
import statistics

import numpy as np
import pytest
import torch
from scipy import ndimage

from auditor.efficientnet import embedder
from auditor.probe import shipped_probes
from auditor.probe.real import manifest, shipped_frames
from auditor.records import InputSpec
from auditor.score.perceptual import SIDE, UNIT, distance_of_looks, looks, perceptual_distance, seen

SPEC = InputSpec(frames=2, channels=3, height=32, width=32, layout="NCTHW")


@pytest.fixture(scope="module")
def clips():
    return [probe.clip for probe in shipped_probes(SPEC)]


def noisy(clip, level, seed=0):
    return clip + level * torch.randn(clip.shape, generator=torch.Generator().manual_seed(seed))


def blurred(clip, sigma):
    return torch.from_numpy(ndimage.gaussian_filter(clip.numpy(), (0, 0, sigma, sigma)))


def test_it_agrees_with_the_formula_written_out_in_numpy(clips):
    frames = torch.rand(2, 2, 3, 96, 128, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        first, second = ([m.double().numpy() for m in embedder().stages(clip)] for clip in frames)
    stages = []
    for a, b in zip(first, second, strict=True):
        a, b = (m / np.linalg.norm(m, axis=1, keepdims=True) for m in (a, b))
        stages.append(np.mean([((x - y) ** 2).sum(0).mean() for x, y in zip(a, b, strict=True)]))
    assert len(stages) == 5
    assert perceptual_distance(*frames) == pytest.approx(np.mean(stages) / UNIT, rel=1e-4)


def test_it_ranks_distortions_and_scenes(clips):
    seen_as = [looks(clip) for clip in clips]
    pairs = []
    for i, clip in enumerate(clips):

        def away(made, own=seen_as[i]):
            return distance_of_looks(own, looks(made))

        light = max(away(noisy(clip, 0.02)), away(blurred(clip, 0.5)))
        heavy = min(away(noisy(clip, 0.2)), away(blurred(clip, 2.5)))
        others = [distance_of_looks(seen_as[i], other) for j, other in enumerate(seen_as) if j != i]
        assert away(clip) == 0.0
        assert 0.0 < light < heavy < min(others)
        pairs += others
    assert statistics.median(pairs) == pytest.approx(1.0, abs=0.1), "the unit is a scene's distance to another"


def test_another_moment_of_a_camera_is_nearer_than_any_other_scene(clips):
    moments = [frames[[0, -1]] for frames in (shipped_frames(entry) for entry in manifest())]
    small = [torch.nn.functional.interpolate(frames, (32, 32), mode="area") for frames in moments]
    for i, frames in enumerate(small):
        moved = perceptual_distance(frames[:1], frames[1:])
        assert 0.0 < moved < min(perceptual_distance(frames[:1], f[:1]) for j, f in enumerate(small) if j != i)


def test_it_is_a_distance_over_frames(clips):
    a, b = clips[:2]
    assert perceptual_distance(a, b) == pytest.approx(perceptual_distance(b, a))
    each = [perceptual_distance(a[t : t + 1], b[t : t + 1]) for t in range(2)]
    assert perceptual_distance(a, b) == pytest.approx(statistics.fmean(each), rel=1e-4)


def test_small_frames_are_enlarged_and_large_ones_stay():
    assert seen(torch.rand(2, 3, 32, 32), SIDE).shape == (2, 3, SIDE, SIDE)
    assert seen(torch.rand(2, 3, 4, 8), SIDE).shape == (2, 3, SIDE, 2 * SIDE)
    large = torch.rand(2, 3, 96, 100)
    assert torch.equal(seen(large, SIDE), large)
    assert seen(torch.rand(2, 3, 97, 101), SIDE).shape[-2:] in ((96, 100), (98, 102), (96, 102), (98, 100))


def test_one_channel_and_tiny_clips_and_what_diverged():
    grey = torch.rand(2, 1, 5, 7, generator=torch.Generator().manual_seed(0))
    assert perceptual_distance(grey, grey) == 0.0
    colour = grey.expand(-1, 3, -1, -1)
    assert perceptual_distance(grey, 1 - grey) == pytest.approx(perceptual_distance(colour, 1 - colour), abs=1e-6)
    broken = perceptual_distance(grey, torch.full_like(grey, math.nan))
    assert broken == pytest.approx(perceptual_distance(grey, torch.full_like(grey, 0.5)))
    assert math.isfinite(perceptual_distance(grey, torch.full_like(grey, -math.inf)))
    with pytest.raises((ValueError, TypeError), match=r"shapes differ|Type-check error"):
        perceptual_distance(grey, grey[:1])
