"""The frame-membership threshold against nulls whose distribution is known."""

import math

import pytest
import torch

from auditor.score.membership import calibrate


def scenes(count, size, centre, spread, seed):
    g = torch.Generator().manual_seed(seed)
    return [(centre * (spread * torch.randn(size, generator=g)).exp()).tolist() for _ in range(count)]


def test_nulls_from_one_distribution_are_called_members_at_the_stated_rate_or_less():
    test = calibrate(scenes(8, 20, 0.2, 0.4, 0), rate=0.05)
    fresh = scenes(1, 4000, 0.2, 0.4, 1)[0]
    assert test.claims
    assert sum(test.members(fresh)) / len(fresh) <= 0.05
    assert test.false_positives.trials == 160
    assert test.false_positives.chance == 0.05


def test_members_far_below_the_nulls_are_found():
    test = calibrate(scenes(6, 10, 0.4, 0.3, 0), noise=1e-6)
    assert test.members([1e-6, 2e-6, 0.2, 0.5]) == (True, True, False, False)
    assert 1e-5 < test.threshold < 1e-2


def test_one_null_scene_that_was_in_the_clip_takes_the_claim_away():
    """Frames of a scene the others know nothing of: half of its frames are as near as members."""
    nulls = scenes(6, 10, 0.4, 0.2, 0)
    nulls[3] = [1e-4] * 10
    test = calibrate(nulls)
    assert test.false_positives.hits == 10
    assert not test.claims
    assert test.members([1e-9]) == (False,)


def test_too_few_nulls_claim_nothing():
    test = calibrate([[0.3, 0.4], [0.5, 0.2]], rate=0.05)
    assert test.false_positives.hits == 0
    assert not test.claims


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_distances_that_are_not_numbers_claim_nothing(value):
    test = calibrate([[value] * 20, [0.3] * 20])
    assert test.members([0.1]) == (False,)


@pytest.mark.parametrize("nulls", [[], [[0.1]], [[0.1], []]])
def test_one_scene_is_not_enough(nulls):
    with pytest.raises(ValueError, match="two scenes"):
        calibrate(nulls)


def test_a_zero_distance_is_not_a_crash():
    assert calibrate([[0.0] * 20, [0.3] * 20]).members([0.1]) == (False,)
