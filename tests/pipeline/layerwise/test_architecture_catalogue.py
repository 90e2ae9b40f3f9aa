"""The catalogue of architectures: its page and its data say what its cases say, and recommendations cite it."""

import json
import sys
from pathlib import Path

import pytest

from auditor.pipeline.documents.architecture_rules import KEEP_BACK, catalogue_evidence
from auditor.shipped import shipped

ROOT = Path(__file__).parents[3]
DATA = json.loads((shipped("report_templates") / "architectures.json").read_text("utf-8"))


@pytest.fixture
def benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    yield
    for name in ("architecture_table", "architecture_nets", "depth_nets", "suite", "deep_suite"):
        sys.modules.pop(name, None)


def line(net: str, *changes: tuple[str, float | None, str]) -> dict:
    keys = ("name", "delta_gain", "not_compared")
    return {
        "net": net,
        "what_if": [{**dict(zip(keys, change, strict=True)), "skipped": change[1] is None} for change in changes],
    }


def test_a_rule_counts_only_where_the_strongest_attacks_met_the_change(benchmarks):
    from architecture_table import rule

    lines = [
        line("a", ("batch 4", -9.0, "")),
        line("b", ("batch 4", -20.0, "the recursion needs one clip")),
        line("c", ("batch 4", 3.0, "")),
        line("d", ("batch 4", -0.5, "")),
        line("e", ("batch 4", None, "")),
    ]
    assert rule(lines, "batch 4") == {"tried": 4, "compared": 3, "lower": 1, "higher": 1, "median": -0.5}
    # What gave nothing as it is cannot be lowered.
    dull = {"name": "as audited", "gain": 0.4, "delta_gain": None, "not_compared": "", "skipped": False}
    lines[0]["what_if"].append(dull)
    assert rule(lines, "batch 4") == {"tried": 4, "compared": 2, "lower": 0, "higher": 1, "median": 1.2}
    dull["gain"] = 1.1
    assert rule(lines, "batch 4")["lower"] == 1
    assert rule(lines, "head only")["median"] is None


def test_every_net_of_the_catalogue_gives_ten_logits_of_a_clip(benchmarks):
    import torch
    from architecture_nets import CLASSES, CLIP, NETS

    names = [name for family in NETS.values() for name in family]
    assert len(names) == len(set(names)) >= 30
    for make in (make for family in NETS.values() for make in family.values()):
        torch.manual_seed(0)
        assert make().eval()(torch.rand(1, *CLIP)).shape == (1, CLASSES)


def test_recommendations_cite_what_the_data_say():
    assert KEEP_BACK in DATA["rules"]
    for name, held in DATA["rules"].items():
        assert held["lower"] + held["higher"] <= held["compared"] <= held["tried"]
        cited = f"on {held['lower']} of {held['compared']} nets" if held["compared"] else ""
        assert cited in catalogue_evidence(name)
        assert bool(cited) == bool(catalogue_evidence(name))
    assert catalogue_evidence("a change that nobody measured") == ""


def test_no_case_has_a_baseline_that_contradicts_its_verdict():
    """An audit that fails shows the picture in its baseline row too, and one that does not fail shows none there."""
    rows = [case for case in DATA["cases"] if case["audited_row"] is not None and case["verdict"] is not None]
    assert len(rows) >= 10
    for case in rows:
        assert (case["verdict"] == "FAIL") == (case["audited_row"] in ("RECOGNISABLE", "EXACT")), case


def test_the_page_has_every_case_of_the_data_and_says_what_was_not_run():
    page = (ROOT / "docs" / "architectures.md").read_text("utf-8")
    for case in DATA["cases"]:
        assert f"| {case['net']} | {case['parameters']:,} | " in page
    assert DATA["date"] in page
    every = {(net, state, clips) for net in DATA["structures"] for state in ("fresh", "trained") for clips in (1, 2, 4)}
    done = {(case["net"], case["weights"], case["batch"]) for case in DATA["cases"]}
    assert done <= every
    assert f"{len(done)} of {len(every)} cases were run" in page
    assert ("Not run: " in page or "None of " in page) == (done < every)
