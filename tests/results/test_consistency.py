"""The checker finds planted contradictions, nothing in what the program writes, and stands before every report."""

import copy
import json
from pathlib import Path

import pytest

from auditor.errors import UsageError
from auditor.report.plain import plain
from auditor.results.audit import AUDIT
from auditor.results.consistency import contradictions
from auditor.results.reading import read_results
from auditor.results.upgrade import upgraded

RECORDED = Path(__file__).parent / "schema_1"


@pytest.fixture(params=["flat", "pooled", "two"])
def recorded(request):
    return upgraded(json.loads((RECORDED / f"{request.param}.json").read_text()), AUDIT)


@pytest.fixture
def failing():
    return upgraded(json.loads((RECORDED / "flat.json").read_text()), AUDIT)


def test_scans_of_this_program_do_not_contradict_themselves(recorded) -> None:
    assert contradictions(recorded) == ()


def word(results, value):
    results["verdict"] |= {"word": value, "sentence": f"{value}: so it is", "reasons": []}


def passed(results):
    word(results, "PASS")


def gate_passed(results):
    results["verdict"] |= {"exit_code": 0, "gate": {"fail_on": "high", "passed": True}}


def not_counting(results):
    for finding in results["findings"]:
        finding["counts"] = False


def band(results):
    results["severity"]["band"] = "low"


def none(results):
    results["severity"] |= {"score": 0.0, "band": "none"}
    results["verdict"] |= {"exit_code": 0, "gate": {"fail_on": "high", "passed": True}}


def weaker(results):
    results["findings"][0]["grade"] = "GIST"


def stronger(results):
    results["findings"][0] |= {"recall": None}
    for run in results["findings"][0]["results"]:
        run["grade"] = "NOT_SHOWN"


def null(results):
    results["findings"][0]["null_at_chance"] = False


def control(results):
    results["controls"][0]["passed"] = False


def said_to_fail(results):
    results["confidence"]["reasons"] = ["a control failed"]
    for entry in results["controls"]:
        entry["passed"] = True


def sentence(results):
    results["verdict"]["sentence"] = "PASS: no leakage demonstrated"


def reason(results):
    results["verdict"]["reasons"] = ["an attack reached RECOGNISABLE"]


def bases(results):
    for variant in results["what_if"]:
        variant["baseline"] = True


def change(results):
    results["what_if"][1]["delta_gain"] += 1.0


def effect(results):
    results["actions"][0]["effect"] = "attack gain +9.9 dB to +1.1 dB on one clip (measured)"


def blind(results):
    word(results, "WARN")
    results["model"]["fidelity"]["blind"] = ["Forward rounds."]


def own_net(results):
    word(results, "WARN")
    results["controls"].append({**results["controls"][0], "kind": "own net", "name": "planted", "passed": False})


@pytest.mark.parametrize(
    ("plant", "says"),
    [
        (passed, "the verdict is PASS"),
        (gate_passed, "exit code is 1"),
        (not_counting, "the verdict is FAIL"),
        (band, "the results say low"),
        (none, "severity is 0.0"),
        (weaker, "a run of"),
        (stronger, "no run of it"),
        (null, "null control was not at chance"),
        (control, "failed"),
        (said_to_fail, "none did"),
        (sentence, "its sentence says PASS"),
        (reason, "RECOGNISABLE"),
        (bases, "baselines"),
        (change, "changes gain"),
        (effect, "+9.9 dB"),
        (blind, "do not see the clip"),
        (own_net, "the control 'planted' failed"),
    ],
)
def test_a_planted_contradiction_is_found_and_the_results_are_refused(failing, tmp_path, plant, says) -> None:
    forged = copy.deepcopy(plain(failing))
    plant(forged)
    assert any(says in found for found in contradictions(forged)), contradictions(forged)
    path = tmp_path / "results.json"
    path.write_text(json.dumps(forged))
    with pytest.raises(UsageError, match="contradicts itself"):
        read_results(path)


def test_an_audited_row_with_a_grade_that_the_audit_has_not_is_found(failing) -> None:
    forged = copy.deepcopy(plain(failing))
    for finding in forged["findings"]:
        finding |= {"counts": False, "null_at_chance": False}
    forged["labels"]["grade"] = "GIST"
    forged["what_if"][0]["grade"] = "EXACT"
    assert any("audited row has grade EXACT" in found for found in contradictions(forged))
