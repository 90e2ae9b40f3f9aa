import math

import pytest
import torch

from auditor.probe import gallery, shipped_probes
from auditor.records import InputSpec
from auditor.score import Appearance, blind_guesses, perceptual_distance, score_clip
from auditor.score.embedding import embedding_rank
from auditor.score.motion import motion_correlation

SPEC = InputSpec(frames=4, channels=3, height=32, width=32, layout="NCTHW")


@pytest.fixture(scope="module")
def crowd():
    return gallery(SPEC)


@pytest.fixture(scope="module")
def probe():
    return shipped_probes(SPEC)[0]


@pytest.fixture(scope="module")
def appearance(probe, crowd):
    return Appearance(probe.clip, blind_guesses(crowd.clips, (32, 32)), crowd.clips)


def damaged(probe):
    return (probe.clip + 0.1 * torch.randn(SPEC.clip_shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)


def test_every_number_is_the_one_of_its_own_function(probe, crowd, appearance):
    made = damaged(probe)
    score = appearance.added(score_clip(probe, made, crowd.clips), made)
    guesses = blind_guesses(crowd.clips, (32, 32)).values()
    assert score.perceptual == pytest.approx(perceptual_distance(probe.clip, made), rel=1e-5)
    assert score.perceptual_blind == pytest.approx(min(perceptual_distance(probe.clip, g) for g in guesses), rel=1e-5)
    assert score.embedding_rank == embedding_rank(probe.clip, made, crowd.clips)
    assert score.motion_correlation == pytest.approx(motion_correlation(probe.clip, made))
    assert score.lpips is score.lpips_blind is None
    assert 0.0 < score.perceptual < score.perceptual_blind


def test_lpips_is_of_the_reconstruction_and_of_the_nearest_guess(probe, crowd):
    def apart(one, other):  # stands for LPIPS, whose weights are not shipped
        return float((one - other).abs().mean())

    made, guesses = damaged(probe), blind_guesses(crowd.clips, (32, 32))
    score = Appearance(probe.clip, guesses, lpips=apart).added(score_clip(probe, made, crowd.clips), made)
    assert score.lpips == pytest.approx(apart(probe.clip, made))
    assert score.lpips_blind == pytest.approx(min(apart(probe.clip, guess) for guess in guesses.values()))
    assert score.lpips < score.lpips_blind


def test_the_rank_in_its_own_scene_counts_that_scene_alone(probe, crowd):
    places = crowd.of(probe.name)
    assert {crowd.names[i].split("/")[0] for i in places} == {probe.name}
    assert len(places) == 12
    made = damaged(probe)
    score = score_clip(probe, made, crowd.clips, same_scene=places)
    assert (score.rank_same_scene, score.same_scene) == (1, 12)
    other = score_clip(probe, crowd.clips[places[0]], crowd.clips, same_scene=places)
    assert 1 < other.rank_same_scene <= other.rank
    assert score_clip(probe, made, crowd.clips).rank_same_scene is None


def test_long_and_large_clips_are_looked_at_in_part_and_nan_is_grey(crowd):
    clip = torch.rand(9, 3, 160, 200, generator=torch.Generator().manual_seed(1))
    grey = torch.full_like(clip, 0.5)
    measured = Appearance(clip, {"grey": grey})
    score = score_clip(shipped_probes(SPEC)[0], torch.full(SPEC.clip_shape, 0.5), crowd.clips)
    broken = measured.added(score, torch.full_like(clip, math.nan))
    assert broken.perceptual == pytest.approx(broken.perceptual_blind)
    assert broken.embedding_rank is None
    few = torch.nn.functional.interpolate(clip[[0, 3, 5, 8]], (128, 160), mode="area")
    assert broken.perceptual == pytest.approx(perceptual_distance(few, grey[:4, :, :128, :160]), rel=1e-5)
