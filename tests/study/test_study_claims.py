"""Effects over clips: the interval against scipy.stats, and what decides a claim."""

import pytest
from scipy import stats

from auditor.probe import camera
from auditor.study.claims import Decision, Effect, effect, t_interval


def test_the_interval_is_students():
    values = [1.2, 0.4, 2.2, 1.9, 0.7]
    expected = stats.t.interval(0.95, len(values) - 1, loc=sum(values) / 5, scale=stats.sem(values))
    assert t_interval(values) == pytest.approx(expected, rel=1e-9)


def test_few_clips_give_no_interval_and_decide_nothing():
    found = effect({"a": [5.0], "b": [5.1]})
    assert found is not None
    assert (found.low, found.high) == (None, None)
    assert found.decide(0.0) is Decision.UNDECIDED


def test_runs_on_one_clip_do_not_narrow_the_interval():
    few = effect({"a": [1.0], "b": [2.0], "c": [3.0]})
    many = effect({"a": [1.0] * 9, "b": [2.0] * 9, "c": [3.0] * 9})
    assert few is not None
    assert many is not None
    assert (few.mean, few.low, few.high) == (many.mean, many.low, many.high)
    assert (few.runs, many.runs) == (3, 27)


def test_a_difference_is_paired_by_clip():
    found = effect({"a": [11.0, 13.0], "b": [22.0], "c": [31.0]}, {"a": [10.0], "b": [20.0, 20.0], "d": [0.0]})
    assert found is not None
    assert found.clips == {"a": 2.0, "b": 2.0}
    assert found.runs == 6


def test_clips_of_one_scene_are_one_trial():
    values = {
        "park_walker": [1.0],
        "park_jump": [3.0],
        "treadmill_one": [4.0],
        "treadmill_two": [6.0],
        "hand_cup": [9.0],
    }
    by_clip, by_scene = effect(values), effect(values, scene=camera)
    assert (by_clip.scenes, by_scene.scenes) == (5, 3)
    assert by_scene.mean == pytest.approx((2.0 + 5.0 + 9.0) / 3)
    assert (by_scene.low, by_scene.high) == pytest.approx(
        stats.t.interval(0.95, 2, loc=16 / 3, scale=stats.sem([2.0, 5.0, 9.0]))
    )
    assert by_scene.high - by_scene.low > by_clip.high - by_clip.low
    assert by_scene.clips == by_clip.clips


def test_what_is_no_number_is_left_out():
    found = effect({"a": [1.0, float("nan")], "b": [float("inf")], "c": [2.0], "d": [3.0]})
    assert found is not None
    assert found.clips == {"a": 1.0, "c": 2.0, "d": 3.0}
    assert effect({"a": [float("nan")]}) is None
    assert effect({"a": [1.0]}, {"b": [1.0]}) is None


@pytest.mark.parametrize(
    ("low", "high", "margin", "decision"),
    [
        (1.1, 3.0, 1.0, Decision.SUPPORTED),
        (0.9, 3.0, 1.0, Decision.UNDECIDED),
        (-3.0, 0.9, 1.0, Decision.CONTRADICTED),
        (-1.0, 1.0, 0.0, Decision.UNDECIDED),
        (-2.0, -1.0, 0.0, Decision.CONTRADICTED),
    ],
)
def test_a_claim_needs_the_whole_interval(low, high, margin, decision):
    assert Effect(clips={}, mean=(low + high) / 2, low=low, high=high, runs=1, scenes=3).decide(margin) is decision


def test_the_interval_covers_as_often_as_it_says():
    """Five clips from a normal distribution, 4000 times: 95% +- 1% (three standard errors)."""
    draws = stats.norm(1.0, 2.0).rvs(size=(4000, 5), random_state=7)
    covered = sum(low <= 1.0 <= high for low, high in (t_interval(list(row)) for row in draws))
    assert 0.94 < covered / 4000 < 0.96
