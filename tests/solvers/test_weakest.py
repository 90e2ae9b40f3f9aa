"""Where something ends as a number grows."""

import math

import pytest

from auditor.solvers.weakest import Bracket, weakest_on_ladder, weakest_on_scale


@pytest.mark.parametrize("threshold", [1.3e-4, 0.02, 0.99, 1.01, 7.0, 9_000.0])
def test_a_bracket_holds_the_threshold_and_is_narrow(threshold):
    asked = []

    def gone(x):
        asked.append(x)
        return x >= threshold

    found = weakest_on_scale(gone, 1.0, 1e-4, 1e4, factor=4.0, precision=1.25)
    assert found.told
    assert found.there < threshold <= found.gone
    assert found.gone / found.there <= 1.25
    assert len(asked) == len(set(asked)) <= 2 + abs(math.log(threshold, 4.0)) + 3


def test_ends_of_the_scale_are_tried_and_nothing_beyond():
    asked = []

    def never(x):
        asked.append(x)
        return False

    assert weakest_on_scale(never, 10.0, 1.0, 500.0, factor=4.0, precision=1.25) == Bracket(500.0, None)
    assert asked == [10.0, 40.0, 160.0, 500.0]
    assert weakest_on_scale(lambda x: True, 10.0, 1.0, 500.0, factor=4.0, precision=1.25) == Bracket(None, 1.0)


def test_a_setting_that_cannot_be_judged_ends_the_search_with_what_is_known():
    found = weakest_on_scale(lambda x: None if x > 3.0 else False, 1.0, 1e-4, 1e4, factor=4.0, precision=1.25)
    assert found == Bracket(1.0, None, told=False)
    found = weakest_on_scale(lambda x: {1.0: False, 4.0: True}.get(x), 1.0, 1e-4, 1e4, factor=4.0, precision=1.25)
    assert found == Bracket(1.0, 4.0, told=False)
    assert weakest_on_ladder(lambda x: None, (1.0, 2.0)) == Bracket(None, None, told=False)


@pytest.mark.parametrize("first", range(6))
def test_a_ladder_is_halved_and_its_strongest_rung_comes_first(first):
    ladder, asked = (1.0, 2.0, 4.0, 8.0, 16.0), []

    def gone(x):
        asked.append(x)
        return ladder.index(x) >= first

    found = weakest_on_ladder(gone, ladder)
    assert asked[0] == 16.0
    assert len(asked) <= 4
    assert found.gone == (ladder[first] if first < 5 else None)
    assert found.there == (None if first == 0 else ladder[first - 1])
