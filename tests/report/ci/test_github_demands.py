"""What GitHub documents that an upload of SARIF must be, one demand a test ("SARIF support for code scanning")."""

import gzip
import json
import re

import pytest
from test_formats import VARIANTS, audit, hostile, judged

from auditor.gate.judge import judge
from auditor.gate.policy import Policy
from auditor.report.ci.sarif import to_github_sarif, to_sarif
from auditor.results.judgement import PlaceBlock

_SEVERITY = re.compile(r"\d{1,2}\.\d")


def results_of(run):
    return run["results"]


def rules_of(run):
    return run["tool"]["driver"]["rules"]


def regions(run):
    return [location["physicalLocation"]["region"] for r in run["results"] for location in r["locations"]]


def addresses(run):
    return [
        location["physicalLocation"]["artifactLocation"]["uri"] for r in run["results"] for location in r["locations"]
    ]


def every(items, holds):
    return all(map(holds, items))


DEMANDS = {
    "at most 25,000 results": lambda run: len(run["results"]) <= 25_000,
    "at most 25,000 rules": lambda run: 0 < len(rules_of(run)) <= 25_000,
    "a tool with a name and a version": lambda run: (
        run["tool"]["driver"]["name"] and run["tool"]["driver"]["semanticVersion"]
    ),
    "a category that ends before the last slash": lambda run: run["automationDetails"]["id"].count("/") == 2,
    "rules with an id": lambda run: len({rule["id"] for rule in rules_of(run)}) == len(rules_of(run)),
    "names of at most 255 characters": lambda run: every(rules_of(run), lambda r: 0 < len(r["name"]) <= 255),
    "short descriptions of at most 1024 characters": lambda run: every(
        rules_of(run), lambda r: 0 < len(r["shortDescription"]["text"]) <= 1024
    ),
    "full descriptions of at most 1024 characters": lambda run: every(
        rules_of(run), lambda r: 0 < len(r["fullDescription"]["text"]) <= 1024
    ),
    "help as text": lambda run: every(rules_of(run), lambda r: bool(r["help"]["text"])),
    "at most 20 tags a rule": lambda run: every(rules_of(run), lambda r: len(r["properties"]["tags"]) <= 20),
    "a precision that it knows": lambda run: every(
        rules_of(run), lambda r: r["properties"]["precision"] in ("very-high", "high", "medium", "low")
    ),
    "levels that it knows": lambda run: every(
        rules_of(run), lambda r: r["defaultConfiguration"]["level"] in ("note", "warning", "error")
    ),
    "security severities as text over 0 and at most 10": lambda run: every(
        [r["properties"]["security-severity"] for r in rules_of(run) if "security-severity" in r["properties"]],
        lambda s: bool(_SEVERITY.fullmatch(s)) and 0.0 < float(s) <= 10.0,
    ),
    "a security tag beside a security severity": lambda run: every(
        [r for r in rules_of(run) if "security-severity" in r["properties"]],
        lambda r: "security" in r["properties"]["tags"],
    ),
    "results that name their rule by id and place": lambda run: every(
        results_of(run), lambda r: rules_of(run)[r["ruleIndex"]]["id"] == r["ruleId"]
    ),
    "a level a result": lambda run: every(results_of(run), lambda r: r["level"] in ("note", "warning", "error")),
    "a message a result": lambda run: every(results_of(run), lambda r: bool(r["message"]["text"].strip())),
    "exactly one location": lambda run: every(results_of(run), lambda r: len(r["locations"]) == 1),
    "all four places of a region": lambda run: every(
        regions(run), lambda g: set(g) == {"startLine", "startColumn", "endLine", "endColumn"}
    ),
    "places that count from 1": lambda run: every(
        regions(run), lambda g: every(g.values(), lambda v: type(v) is int and v >= 1)
    ),
    "a region that holds something": lambda run: every(
        regions(run), lambda g: (g["endLine"], g["endColumn"]) > (g["startLine"], g["startColumn"])
    ),
    "paths within the repository": lambda run: every(
        addresses(run), lambda u: not u.startswith("/") and ":" not in u and bool(re.fullmatch(r"[\w.~%/-]+", u, re.A))
    ),
    "a hash for each alert, and no two alike": lambda run: (
        len({r["partialFingerprints"]["primaryLocationLineHash"] for r in results_of(run)}) == len(results_of(run))
    ),
    "nothing that it takes for open although it is not": lambda run: every(
        results_of(run), lambda r: "suppressions" not in r and "baselineState" not in r
    ),
    "no file outside of the log": lambda run: not {"externalPropertyFileReferences", "conversion"} & set(run),
}


@pytest.fixture(params=list(VARIANTS))
def log(request, tmp_path):
    return to_github_sarif(VARIANTS[request.param](tmp_path))


@pytest.mark.parametrize("demand", DEMANDS)
def test_a_demand_is_met(log, demand):
    (run,) = json.loads(log)["runs"]
    assert DEMANDS[demand](run), demand


def test_an_upload_is_of_version_2_1_0_and_small(log):
    held = json.loads(log)
    assert held["version"] == "2.1.0"
    assert held["$schema"].endswith("sarif-schema-2.1.0.json")
    assert len(gzip.compress(log.encode())) < 10_000_000
    assert len(held["runs"]) <= 20


def test_an_alert_keeps_its_hash_from_run_to_run_and_when_numbers_move():
    first, again = judged("flat"), judged("flat")
    for finding in again["findings"]:
        finding["summary"] += " Once more."
    again["judgement"] = judge(again, Policy(), place=PlaceBlock(path="other.py", line=3, end_column=9, text=True))
    hashes = [
        {
            r["partialFingerprints"]["primaryLocationLineHash"]
            for r in json.loads(to_github_sarif(a))["runs"][0]["results"]
        }
        for a in (first, again)
    ]
    assert hashes[0] == hashes[1] != set()


def test_two_models_do_not_close_each_others_alerts():
    logs = [json.loads(to_github_sarif(hostile(name))) for name in ("front.onnx", "yard.onnx")]
    categories = {log["runs"][0]["automationDetails"]["id"].rpartition("/")[0] for log in logs}
    assert len(categories) == 2


def test_two_projects_whose_models_have_one_name_do_not_close_each_others_alerts():
    categories = set()
    for folder in ("", "front/", "yard/"):
        made = judged("flat")
        made["judgement"]["place"]["path"] = f"{folder}fl-audit.toml"
        categories.add(json.loads(to_github_sarif(made))["runs"][0]["automationDetails"]["id"].rpartition("/")[0])
    assert len(categories) == 3


def test_the_models_digest_is_not_told_of_another_file():
    for made in map(json.loads, (to_github_sarif(judged("flat")), to_sarif(judged("flat")))):
        place, model = made["runs"][0]["artifacts"]
        assert "hashes" not in place
        assert "location" not in model
        assert model["hashes"]["sha-256"] == audit("flat")["model"]["sha256"]
