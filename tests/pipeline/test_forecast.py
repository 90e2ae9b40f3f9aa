"""What `plan` tells of a scan before it begins."""

import dataclasses
from pathlib import Path

import pytest
from short_scans import scanning, short

from auditor.cli.scale.plan_text import forecast_view
from auditor.pipeline import ScanOptions
from auditor.pipeline.forecast import forecast

OPTIONS = ScanOptions(model=f"{Path(__file__).parent.parent / 'models_for_scans.py'}:tiny", input_shape=(3, 4, 16, 16))
PRESET = dataclasses.replace(
    short(10**6, attacks=("least-squares-matching", "least-squares-matching-r1")), seconds=120.0
)


def planned(seconds: float | None = None, jobs: int | None = None) -> dict:
    with scanning(PRESET):
        return forecast(dataclasses.replace(OPTIONS, max_time=seconds), jobs)


@pytest.fixture(scope="module")
def plan() -> dict:
    return planned(jobs=1)


def test_searches_of_a_scan_share_its_work_and_all_of_it_is_in_the_sum(plan):
    runs = {p["what"]: p["runs"] for p in plan["parts"] if p["stage"] == "invert"}
    # Two clips and a canary; with a frame of the scene two clips, and a null for each.
    assert runs == {"least-squares-matching": 3, "least-squares-matching-r1": 4}
    work = [p["work"] / p["runs"] for p in plan["parts"] if p["stage"] == "invert"]
    assert work[0] == pytest.approx(work[1])
    assert 0.8 * PRESET.seconds < plan["work"] < 1.1 * PRESET.seconds
    assert sum(p["seconds"] for p in plan["parts"]) < plan["seconds"]
    assert plan["fits"]
    assert not plan["left_out"]


def test_two_processes_halve_what_they_share(plan):
    together = sum(p["work"] for p in plan["parts"] if p["side_by_side"])
    assert together > 0.8 * plan["work"]
    assert planned(jobs=2)["seconds"] < 0.75 * plan["seconds"]


def test_what_there_is_no_time_for_is_told_before_it_begins():
    short_of_time = planned(seconds=6.0)
    (told,) = {s["because"] for s in short_of_time["left_out"]}
    assert told == "out-of-budget"
    shown = forecast_view(short_of_time)
    assert "Left out:" in shown
    assert "least-squares-matching" in shown
