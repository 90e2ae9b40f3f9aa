"""What page one says at a glance agrees with the findings, and its numbers with one another."""

import pytest

from auditor.report.headline import Best, headlines

from .sample import VARIANTS


def test_the_best_gain_lies_in_the_range_beside_it_when_a_canary_has_it() -> None:
    results = VARIANTS["fail"]()
    finding = next(f for f in results["findings"] if any(r["probe"] == "canary_blocks" for r in f["results"]))
    for other in results["findings"]:
        for result in other["results"]:
            if result["score"] is not None:
                result["grade"], result["score"]["gain"] = "NOT_SHOWN", -2.0
    canary = next(r for r in finding["results"] if r["probe"] == "canary_blocks" and r["score"] is not None)
    canary["grade"], canary["score"]["gain"] = "RECOGNISABLE", 2.5
    picture = headlines(results)[0]
    assert picture.value.startswith("+2.5")
    assert picture.low == -2.0
    assert picture.high == 2.5


@pytest.mark.parametrize(
    ("run", "finding", "shown"),
    [("NOT_SHOWN", "GIST", "GIST"), ("GIST", "EXACT", "GIST"), ("NOT_SHOWN", "NOT_SHOWN", "NOT_SHOWN")],
)
def test_a_clip_that_only_all_runs_together_identify_is_not_called_not_shown(
    run: str, finding: str, shown: str
) -> None:
    assert Best(finding={"grade": finding}, result={"grade": run}).grade == shown
