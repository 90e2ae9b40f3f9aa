"""Budgets of presets follow the network."""

import pytest

from auditor.attack import PRESETS
from auditor.attack.presets import CHEAP_STEP


def test_the_budget_grows_with_a_step_of_the_network_up_to_the_whole():
    standard = PRESETS["standard"]
    paces = [1e-4, CHEAP_STEP, 1.2 * CHEAP_STEP, 1.4 * CHEAP_STEP, 2.0 * CHEAP_STEP, 10.0]
    budgets = [standard.seconds_for(pace) for pace in paces]
    assert budgets == sorted(budgets)
    assert budgets[0] == budgets[1] == standard.least_seconds
    assert budgets[2] == pytest.approx(1.2 * standard.least_seconds)
    assert budgets[-2] == budgets[-1] == standard.seconds


@pytest.mark.parametrize("name", ["fast", "deep"])
def test_other_presets_have_one_budget(name):
    assert {PRESETS[name].seconds_for(pace) for pace in (1e-4, 1.0)} == {PRESETS[name].seconds}
