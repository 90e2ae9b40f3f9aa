"""SARIF, JUnit, annotations and the summary: what their readers demand, and hostile names that stay text."""

import copy
import importlib
import json
import re
import sys
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest
from markdown_it import MarkdownIt

from auditor.errors import UsageError
from auditor.gate.judge import judge
from auditor.gate.policy import Policy
from auditor.gate.rules import BY_RULE, RULES
from auditor.gate.waivers import read_waivers
from auditor.output_formats import FORMATS
from auditor.report.ci.annotations import to_annotations
from auditor.report.ci.junit import to_junit
from auditor.report.ci.sarif import to_github_sarif, to_sarif
from auditor.report.markdown import to_markdown
from auditor.report.outputs import rendered
from auditor.results.judgement import PlaceBlock
from auditor.results.reading import check_results, read_results
from auditor.text import printable

STORED = Path(__file__).parents[2] / "gate" / "stored"
WAIVER = """[[waiver]]
rule = "{rule}"
model = "*"
layer = "{layer}"
reason = "staged [clips](http://example.org) {{0}}"
owner = "me@example.org"
expires = 2999-12-31
"""
HOSTILE = (
    "<script>alert(1)</script>",
    "::error::owned",
    "\n::set-output name=x::y\n::stop-commands::z",
    "a\x00b\x0bc\ufffe\ud800",
    "[click](javascript:alert(1)) {0} {{1}}",
    "../../../etc/passwd",
    "]]><failure/>&quot;&#0;",
    "| a | b |\n# heading ![x](http://example.org/x.png)",
    "\u202egnp.exe",
    "% %0A%0D, file=/etc/passwd,line=1::",
)


def audit(name):
    return read_results(STORED / f"{name}.json")


def judged(name, baseline=None, tmp_path=None, rule="clip-reconstruction", layer="*", place=True, **policy):
    results = audit(name)
    waivers = ()
    if tmp_path is not None:
        (tmp_path / "w.toml").write_text(WAIVER.format(rule=rule, layer=layer), encoding="utf-8")
        waivers = read_waivers(tmp_path / "w.toml")
    where = PlaceBlock(path="models/nets.py", line=7, end_column=12, text=True) if place else None
    old = None if baseline is None else audit(baseline)
    results["judgement"] = judge(results, Policy(**policy), old, waivers, place=where)
    check_results(results)
    return results


def hostile(name):
    """Results in which every name from outside is hostile."""
    made = audit("flat")
    made["model"]["name"] = made["model"]["source"] = name
    for layer in made["layers"]:
        layer["name"] = name
    for finding in made["findings"]:
        finding["summary"] = f"recovered {name}"
        finding["family"] = printable(name)
        for result in finding["results"]:
            result["probe"] = name
    for key in ("version", "audit_id", "started"):
        made["tool"][key] = name
    where = PlaceBlock(path=name, line=1, end_column=2, text=True)
    made["judgement"] = judge(made, Policy(), place=where)
    for alert in made["judgement"]["alerts"]:
        alert.update(layer=name, message=name, reason=name)
    made["judgement"].update(warnings=[name], reasons=[name])
    made["judgement"]["place"]["path"] = name
    return made


VARIANTS = {
    "plain": lambda tmp: judged("flat"),
    "nothing": lambda tmp: judged("pooled", inconclusive="pass"),
    "inconclusive": lambda tmp: judged("pooled"),
    "worse": lambda tmp: judged("flat", "pooled", fail_on="never", fail_on_regression=True),
    "fixed": lambda tmp: judged("pooled", "flat", inconclusive="pass"),
    "waived": lambda tmp: judged("flat", "pooled", tmp),
    "without a place": lambda tmp: judged("learned_positions", place=False),
    "never judged": lambda tmp: audit("flat"),
    **{f"hostile {n}": lambda tmp, name=name: hostile(name) for n, name in enumerate(HOSTILE)},
}


@pytest.fixture(params=list(VARIANTS))
def results(request, tmp_path):
    return VARIANTS[request.param](tmp_path)


def optional(name):
    """A reader of these formats, installed with the extra `dev`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "warnoptions", [])
        pytest.importorskip(name)
    return importlib.import_module(name)


@pytest.mark.parametrize("form", [to_sarif, to_github_sarif])
def test_sarif_fits_the_published_schema(results, form):
    """By the types that were made of sarif-schema-2.1.0.json, which forbid what it does not name."""
    model = optional("pydantic_sarif.model")
    model.StaticAnalysisResultsFormatSarifVersion210JsonSchema.model_validate_json(form(results))


@pytest.mark.parametrize("form", [to_sarif, to_github_sarif])
def test_sarif_tools_read_it(results, form, tmp_path):
    loader = optional("sarif.loader")
    (tmp_path / "audit.sarif").write_text(form(results), encoding="utf-8")
    found = loader.load_sarif_file(str(tmp_path / "audit.sarif"))
    log = json.loads(form(results))
    assert found.get_result_count() == len(log["runs"][0]["results"])
    assert found.get_distinct_tool_names() == ["fl-audit"]
    records = found.get_records()
    assert [r["Severity"] for r in records] == [r["level"] for r in log["runs"][0]["results"]]


def test_junitparser_reads_it(results):
    junitparser = optional("junitparser")
    parsed = junitparser.JUnitXml.fromstring(to_junit(results).encode("utf-8"))
    (suite,) = list(parsed)
    cases = list(suite)
    kinds = [type(r).__name__ for case in cases for r in case.result]
    assert suite.tests == len(cases)
    assert (suite.failures, suite.errors, suite.skipped) == tuple(
        kinds.count(kind) for kind in ("Failure", "Error", "Skipped")
    )


def test_githubs_form_has_what_is_open_and_the_complete_one_everything(tmp_path):
    waived = judged("flat", "pooled", tmp_path, layer="recursion*")
    complete, github = (json.loads(form(waived))["runs"][0]["results"] for form in (to_sarif, to_github_sarif))
    states = {r["baselineState"] for r in complete}
    assert states == {"new", "updated", "unchanged", "absent"}
    held = [r for r in complete if r["suppressions"]]
    assert len(held) == sum(a["waiver"] is not None for a in waived["judgement"]["alerts"]) == 2
    assert all("suppressions" in r for r in complete)
    assert "me@example.org, until 2999-12-31" in held[0]["suppressions"][0]["justification"]
    gone = sum(a["state"] == "fixed" for a in waived["judgement"]["alerts"])
    assert len(github) == len(complete) - len(held) - gone
    assert all(r["level"] == "note" for r in held)


def test_the_rules_severity_is_that_of_its_worst_open_alert():
    for name, expected in (("flat", "8.3"), ("learned_positions", "10.0")):
        rules = json.loads(to_github_sarif(judged(name)))["runs"][0]["tool"]["driver"]["rules"]
        (rule,) = (r for r in rules if r["id"] == "clip-reconstruction")
        assert rule["properties"]["security-severity"] == expected


def test_an_audit_that_cannot_tell_is_no_success_anywhere():
    results = judged("pooled")
    (run,) = json.loads(to_sarif(results))["runs"]
    assert run["invocations"][0]["executionSuccessful"] is False
    assert run["invocations"][0]["exitCode"] == 4
    suite = ElementTree.fromstring(to_junit(results))[0]
    assert suite.attrib["errors"] == "1"
    passed = [c for c in suite.findall("testcase") if c.find("skipped") is None and c.find("error") is None]
    assert {c.attrib["classname"] for c in passed} <= {"fl-audit.label-inference", "fl-audit.update-exposure"}
    assert "::error title=fl-audit::gate failed" in to_annotations(results)


def test_hostile_names_are_inert_in_every_format(results):
    made = copy.deepcopy(results)
    for text in (to_sarif(made), to_github_sarif(made)):
        assert text.isascii()
        for message in re.findall(r'"(?:text|justification|fullyQualifiedName)": ("(?:[^"\\]|\\.)*")', text):
            said = json.loads(message)
            assert not re.search(r"\]\(|\{\d+\}", said) or said in _our_own()
    for line in to_annotations(made).splitlines():
        assert re.match(r"::(error|warning|notice) title=[^:]*(?:,file=[^:,]*,line=\d+,endLine=\d+)?::", line)
    root = ElementTree.fromstring(to_junit(made))
    assert {e.tag for e in root.iter()} <= {
        "testsuites", "testsuite", "properties", "property", "testcase", "failure", "error", "skipped", "system-out",
    }  # fmt: skip
    page = MarkdownIt("commonmark").enable("table").render(to_markdown(made))
    assert not re.search(r"<(a|img|script|h1|failure)\b", page)


def _our_own():
    return {text for rule in RULES for text in (rule.short, rule.meaning)}


def test_a_path_with_odd_characters_is_told_as_an_address():
    results = judged("flat")
    results["judgement"]["place"]["path"] = "models/net a#1?ü.py"
    (run,) = json.loads(to_github_sarif(results))["runs"]
    uri = run["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert uri == "models/net%20a%231%3F%C3%BC.py"
    assert unquote(uri) == "models/net a#1?ü.py"


def test_what_fails_the_gate_is_a_failure_and_what_is_waived_is_skipped(tmp_path):
    cases = {
        (c.attrib["classname"], c.attrib["name"]): [child.tag for child in c]
        for c in ElementTree.fromstring(to_junit(judged("flat", None, tmp_path, layer="recursion*")))[0].findall(
            "testcase"
        )
    }
    assert cases["fl-audit.clip-reconstruction", "matching"] == ["failure"]
    assert cases["fl-audit.clip-reconstruction", "recursion"] == ["skipped", "system-out"]
    assert cases["fl-audit.label-inference", "labels"] == ["system-out"]


def test_the_summary_tells_the_gate_and_every_waived_alert(tmp_path):
    text = to_markdown(judged("flat", "pooled", tmp_path))
    assert "### Gate: " in text
    assert "3 waived" in text
    assert len(re.findall(r"\| waived \|", text)) == 3
    assert "### Gate" not in to_markdown(audit("flat"))


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_can_be_printed(suffix):
    if suffix == ".pdf":
        pytest.skip("takes long, and is tested where PDF is")
    assert rendered(judged("pooled"), Path(f"-{suffix}"))


def test_a_suffix_that_is_none_is_refused():
    with pytest.raises(UsageError, match=r"cannot tell the kind of audit\.doc"):
        rendered(audit("pooled"), Path("audit.doc"))


def test_every_rule_is_told_in_whole():
    for rule in RULES:
        assert rule.remedies
        assert all((rule.short, rule.meaning, rule.why, rule.evidence))
        assert len(f"{rule.meaning} {rule.why}") <= 1024
    assert set(BY_RULE) == {rule.name for rule in RULES}
