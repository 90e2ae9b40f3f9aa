"""Where less is exposed than was demonstrated, the report says why; nowhere else."""

import json
from typing import Any

import pytest

from auditor.report.exposed import why_below
from auditor.report.page import render
from auditor.report.plain import plain
from auditor.shipped import shipped

from .sample import VARIANTS

CASES = json.loads((shipped("report_templates") / "architectures.json").read_text("utf-8"))["cases"]


def results(exposed: float | str | None, best: float | str | None, cap: float | None = 26.4) -> dict[str, Any]:
    result = {"probe": "a", "grade": "EXACT", "pictures": None, "score": {"psnr": best, "gain": 9.0}}
    told = None if exposed is None else {"psnr": exposed, "cap": cap}
    return {
        "probes": [{"name": "a", "kind": "clip"}],
        "findings": [] if best is None else [{"grade": "EXACT", "results": [result]}],
        "exposure": {"all": told, "modes": 256, "sigma": 0.03},
    }


def test_every_case_of_the_catalogue_that_shows_more_than_is_exposed_has_its_sentence():
    beyond = 0
    for case in CASES:
        exposed, best = case["exposed"], case["best"]
        below = None not in (exposed, best) and best - exposed > 0.05
        beyond += below
        told = why_below(results(exposed, best))
        assert bool(told) == below, case
        assert not below or "linear prediction at noise 0.03" in told
    assert beyond


@pytest.mark.parametrize(
    ("exposed", "best", "said"),
    [(26.0, 26.04, False), (26.0, 26.2, True), (26.0, "inf", True), (None, 90.0, False), (26.0, None, False)],
)
def test_the_sentence_stands_where_the_page_shows_less(exposed, best, said):
    assert bool(why_below(results(exposed, best))) == said


def test_the_sentence_names_the_modes_and_their_end():
    told = why_below(results(26.0, 91.5))
    assert "in 256 modes" in told
    assert "These modes can show 26.4 dB at most." in told
    assert "at most" not in why_below(results(26.0, 91.5, cap=None))


@pytest.mark.parametrize(
    ("best", "said"), [(30.0, ""), (35.0, "between 31.0 dB and 38.0 dB"), (39.0, "follows the curvature of the model")]
)
def test_between_its_sides_exposure_contradicts_nothing(best, said):
    made = results(31.0, best, cap=None)
    made["exposure"]["all"]["at_most"] = 38.0
    told = why_below(made)
    assert told.endswith(f"{said}.") if said else not told
    assert "modes" not in told


def test_the_page_says_which_net_of_the_catalogue_the_model_is_like():
    pages = {name: make() for name, make in VARIANTS.items()}
    placed = next(name for name, made in pages.items() if made.get("most_like"))
    page = " ".join(render(plain(pages[placed]), printed=False).split())
    assert "vivit-learned (114,442 parameters) is most like this model" in page
    assert "the best picture was 112.0 dB by patch-embedding" in page
    assert "takes no part in this verdict" in page
