"""Budgets of presets follow the network."""

import pytest
import torch

from auditor.attack import PRESETS, work_a_second
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


def test_a_second_of_a_gpu_is_more_work_the_more_a_step_computes():
    gpu, paces = torch.device("cuda"), [1e-3, 0.02, 0.1, 1.0, 8.1, 1e3]
    work = [work_a_second(gpu, pace) for pace in paces]
    assert work == sorted(work)
    assert work[0] == work[1] == 1.0  # kernels take longer to start than a CPU takes for all of it
    assert 1.0 < work[2] < work[-1] < 16.0
    assert {work_a_second(torch.device("cpu"), pace) for pace in paces} == {1.0}
