"""The gate in the report says what the terminal and SARIF say: states, waivers with owner and reason, and why."""

import html
import json
import re
from pathlib import Path

import pytest

from auditor.errors import UsageError
from auditor.gate.judge import judge
from auditor.gate.policy import Policy
from auditor.gate.waivers import read_waivers
from auditor.report.ci.changes import change_lines
from auditor.report.ci.sarif import to_sarif
from auditor.report.judgement import shown
from auditor.report.page import to_html
from auditor.results.reading import read_results

STORED = Path(__file__).parents[1] / "gate" / "stored"
WAIVERS = """[[waiver]]
rule = "clip-reconstruction"
model = "*"
layer = "matching*"
reason = "staged <b>clips</b>"
owner = "me@example.org"
expires = 2999-12-31

[[waiver]]
rule = "label-inference"
model = "*"
layer = "*"
reason = "labels are public"
owner = "other@example.org"
expires = 2020-01-31
"""


@pytest.fixture
def compared(tmp_path):
    """A pooled net against the same net with a flatten, judged with one waiver that holds and one that is over."""
    (tmp_path / "w.toml").write_text(WAIVERS, encoding="utf-8")
    now, before = read_results(STORED / "flat.json"), read_results(STORED / "pooled.json")
    policy = Policy(fail_on="never", fail_on_regression=True, levels={"frame-membership": "off"})
    return {**now, "judgement": judge(now, policy, before, read_waivers(tmp_path / "w.toml"))}


def section(page):
    """The text of the section on the gate, tags taken away."""
    found = re.search(r'<section id="gate".*?</section>', page, re.DOTALL)
    assert found
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", found[0])))


def test_every_alert_has_the_state_that_terminal_and_sarif_tell(compared):
    alerts = compared["judgement"]["alerts"]
    rows = shown(compared).alerts
    assert [row.state.lower() for row in rows] == [alert["state"] for alert in alerts]
    states = {"new": "new", "worse": "updated", "better": "updated", "same": "unchanged", "fixed": "absent"}
    told = [r["baselineState"] for r in json.loads(to_sarif(compared))["runs"][0]["results"]]
    assert [states[row.state.lower()] for row in rows] == told
    assert shown(compared).counted in change_lines(compared, compared["judgement"])[0]
    text = section(to_html(compared))
    assert shown(compared).counted in text
    for alert in alerts:
        assert alert["reason"][:100] in text
    assert text.count("Fails the gate.") == sum(alert["fails"] for alert in alerts) > 0
    assert "Gate failed" in text


def test_waivers_are_told_with_owner_reason_last_day_and_what_became_of_them(compared):
    text = section(to_html(compared))
    assert "waived by me@example.org until 2999-12-31: staged <b>clips</b>" in text
    assert "<b>clips</b>" not in to_html(compared)
    assert "other@example.org" in text
    assert "2020-01-31" in text
    assert "expired: what it covered is open again" in text
    waived = sum(alert["waiver"] is not None for alert in compared["judgement"]["alerts"])
    assert waived == sum(bool(row.answer) for row in shown(compared).alerts) > 0


def test_policy_baseline_and_spread_are_told(compared):
    text = section(to_html(compared))
    for told in (
        "what is new or worse than in the baseline fails",
        "frame-membership counts as off",
        compared["judgement"]["baseline"]["audit_id"],
        "What counts as a change",
    ):
        assert told in text


def test_without_a_gate_there_is_no_section_and_without_a_baseline_no_states():
    bare = read_results(STORED / "flat.json")
    assert shown(bare) is None
    assert 'id="gate"' not in to_html(bare)
    judged = {**bare, "judgement": judge(bare, Policy())}
    text = section(to_html(judged))
    assert "none: nothing was compared" in text
    assert not any(row.state for row in shown(judged).alerts)
    assert "Gate failed (exit code 1)" in text


def test_sections_are_numbered_without_a_gap(compared):
    for results in (compared, read_results(STORED / "flat.json")):
        numbers = re.findall(r'<h2><span class="number">(\d+)</span>', to_html(results))
        assert numbers == [str(n) for n in range(2, len(numbers) + 2)]


def test_a_judgement_that_hides_something_is_not_shown(compared):
    compared["judgement"]["alerts"] = compared["judgement"]["alerts"][1:]
    with pytest.raises(UsageError, match="contradicts the findings"):
        to_html(compared)
