"""What `plan` tells of a scan before it begins."""

import dataclasses
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from short_scans import scanning, short

from auditor.attack.base import Attack, skipped
from auditor.cli.scale.plan_text import forecast_view
from auditor.pipeline import ScanOptions
from auditor.pipeline.forecast import forecast
from auditor.pipeline.forecast.trials import begin
from auditor.records import Budget
from auditor.records.work import TooMuchWork, at_most, counting, work_so_far

# Reference seconds of a singular value decomposition in float64 of so many rows and columns.
ROWS, DECOMPOSED = 64, 0.6e-9 * 64**3

OPTIONS = ScanOptions(model=f"{Path(__file__).parent.parent / 'models_for_scans.py'}:tiny", input_shape=(3, 4, 16, 16))


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Decomposing(Attack):
    """Decomposes a matrix, and then gives up."""

    name: str = "decomposing"
    title: str = "Decomposing"
    source: str = "this test"
    times: int = 1

    def obstacle(self, view):
        return None

    def invert(self, view, budget, seed):
        for _ in range(self.times):
            torch.linalg.svd(torch.eye(ROWS, dtype=torch.float64))
        return skipped(self, "nothing follows")


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Broken(_Decomposing):
    """Has a defect."""

    def invert(self, view, budget, seed):
        raise RuntimeError("broken")


SEARCHES = short(10**6, attacks=("least-squares-matching", "least-squares-matching-r1"))
PRESET = dataclasses.replace(SEARCHES, seconds=120.0, attacks=(*SEARCHES.attacks, _Decomposing(times=500)))


def planned(seconds: float | None = None, jobs: int | None = None) -> dict:
    with scanning(PRESET), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules[forecast.__module__], "_SEARCHING", 0.1)
        return forecast(dataclasses.replace(OPTIONS, max_time=seconds), jobs)


@pytest.fixture(scope="module")
def plan() -> dict:
    return planned(jobs=1)


def test_searches_of_a_scan_share_its_work_and_all_of_it_is_in_the_sum(plan):
    searches = [p for p in plan["parts"] if p["stage"] == "invert" and p["what"] != "decomposing"]
    runs = {p["what"]: p["runs"] for p in searches}
    # Two clips and a canary; with a frame of the scene two clips, and a null for each.
    assert runs == {"least-squares-matching": 3, "least-squares-matching-r1": 4}
    work = [p["work"] / p["runs"] for p in searches]
    assert work[0] == pytest.approx(work[1], rel=1e-3)
    # Three of ten units give up: nobody waits for what they leave.
    assert 0.6 * PRESET.seconds < plan["work"] < 0.8 * PRESET.seconds
    assert sum(p["seconds"] for p in plan["parts"]) < plan["seconds"]
    assert plan["fits"]


def test_an_attack_that_gives_up_takes_what_it_took_and_is_told(plan):
    (given_up,) = [p for p in plan["parts"] if p["what"] == "decomposing"]
    assert given_up["runs"] == 3
    assert 500 * DECOMPOSED < given_up["work"] / 3 < 700 * DECOMPOSED
    assert [(s["what"], s["reason"]) for s in plan["left_out"]] == [("decomposing", "nothing follows")]


def test_an_attack_that_is_begun_is_ended_before_a_decomposition_that_takes_too_long():
    view = SimpleNamespace(update=SimpleNamespace(device=torch.device("cpu")), knowledge=SimpleNamespace(defences=()))
    with counting():
        before = work_so_far()
        trial = begin(_Decomposing(times=100), view, Budget(seconds=1.0, steps=1), 0, 3.5 * DECOMPOSED)
        assert work_so_far() == before  # planning takes nothing of what is planned
        assert trial.ended is None
        assert 3.0 * DECOMPOSED < trial.work < 4.0 * DECOMPOSED
        assert begin(_Broken(), view, Budget(seconds=1.0, steps=1), 0, 1.0).gave_up.because == "failed"
        with pytest.raises(TooMuchWork), at_most(0.5 * DECOMPOSED):
            torch.linalg.svd(torch.eye(ROWS, dtype=torch.float64))
        torch.linalg.svd(torch.eye(ROWS, dtype=torch.float64))  # allowed again
    assert work_so_far() - before > DECOMPOSED


def test_two_processes_halve_what_they_share(plan):
    together = sum(p["work"] for p in plan["parts"] if p["side_by_side"])
    assert together > 0.8 * plan["work"]
    assert planned(jobs=2)["seconds"] < 0.75 * plan["seconds"]


def test_what_there_is_no_time_for_is_told_before_it_begins():
    short_of_time = planned(seconds=6.0)
    told = {s["what"] for s in short_of_time["left_out"] if s["because"] == "out-of-budget"}
    assert told.intersection({"least-squares-matching", "least-squares-matching-r1"})
    shown = forecast_view(short_of_time)
    assert "Left out:" in shown
    assert "least-squares-matching" in shown
