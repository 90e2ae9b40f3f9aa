"""diff and gate on the command line: codes, one line of error, and JSON that is JSON."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from auditor.cli.main import app
from auditor.errors import AuditError

STORED = Path(__file__).parents[1] / "gate" / "stored"
FIXED, LEARNED, POOLED, FLAT = (
    str(STORED / f"{name}.json") for name in ("fixed_positions", "learned_positions", "pooled", "flat")
)
WAIVERS = """[[waiver]]
rule = "clip-reconstruction"
model = "*"
layer = "*"
reason = "staged clips"
owner = "me@example.org"
expires = 2999-12-31
"""


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Run `fl-audit ARGS` in an empty folder; return the code, what was printed, and the error."""
    monkeypatch.chdir(tmp_path)

    def call(*args):
        ran = CliRunner().invoke(app, list(args), standalone_mode=False)
        if isinstance(ran.exception, AuditError):
            return int(ran.exception.exit_code), ran.output, str(ran.exception)
        assert ran.exception is None, ran.exception
        return int(ran.return_value or 0), ran.output, ""

    return call


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (("diff", FIXED, LEARNED), 0, "1 worse"),
        (("diff", FIXED, LEARNED, "--fail-on-regression"), 1, "gate failed: clip-reconstruction (closed-form) is new"),
        (("diff", LEARNED, FIXED, "--fail-on-regression"), 0, "nothing is worse than in the baseline"),
        (("gate", FLAT), 1, "is high, and the gate stops at high"),
        (("gate", FLAT, "--fail-on", "critical"), 0, "nothing of severity critical or above"),
        (("gate", FLAT, "--level", "clip-reconstruction=low"), 0, "gate satisfied"),
        (("gate", POOLED), 4, "the audit cannot tell"),
        (("gate", POOLED, "--inconclusive", "pass"), 0, "gate satisfied"),
        (("gate", POOLED, "--baseline", FIXED, "--inconclusive", "new"), 0, "against vit"),
        (("gate", FLAT, "--baseline", POOLED, "--fail-on", "never", "--fail-on-regression"), 1, "is new"),
    ],
)
def test_codes_and_words(run, args, code, says):
    got, out, error = run(*args)
    assert (got, error) == (code, "")
    assert says in out


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("diff", FIXED, "none.json"), "there is no none.json; give NEW the results.json of a scan"),
        (("gate", FLAT, "--fail-on-regression"), "add --baseline results.json"),
        (("gate", FLAT, "--level", "label=off"), "there is no rule 'label' (did you mean label-inference?)"),
        (("gate", FLAT, "--level", "label-inference=severe"), "--level label-inference=severe names no level"),
        (("gate", FLAT, "--waivers", "none.toml"), "there is no none.toml"),
        (("gate", FLAT, "--inconclusive", "maybe"), "--inconclusive maybe is unknown; use one of fail, new, pass"),
        (("gate", str(STORED / "README.md")), "is not JSON"),
    ],
)
def test_what_is_wrong_is_one_line_and_code_2(run, args, says):
    code, out, error = run(*args)
    assert (code, out) == (2, "")
    assert says in error
    assert "\n" not in error


def test_diff_prints_json_and_nothing_else(run):
    code, out, _ = run("diff", FIXED, LEARNED, "--json")
    found = json.loads(out)
    assert code == 0
    assert {a["state"] for a in found["alerts"]} >= {"new", "worse", "same"}
    assert found["baseline"]["verdict"] == "INCONCLUSIVE"


def test_waivers_beside_are_read_and_shown(run, tmp_path):
    assert run("gate", FLAT)[0] == 1
    (tmp_path / "fl-audit-waivers.toml").write_text(WAIVERS, encoding="utf-8")
    code, out, _ = run("gate", FLAT)
    assert code == 0
    assert "3 waived" in out
    assert "waived  8.3 high     clip-reconstruction" in out


def test_a_scan_refuses_to_overwrite_its_baseline_before_it_begins(run, tmp_path):
    folder = tmp_path / "fl-audit-report"
    folder.mkdir()
    (folder / "results.json").write_bytes(Path(FLAT).read_bytes())
    (tmp_path / "nets.py").write_text("def net():\n    raise AssertionError('it was begun')\n", encoding="utf-8")
    code, _, error = run("scan", "nets.py:net", "--baseline", "fl-audit-report/results.json")
    assert code == 2
    assert error == "the baseline fl-audit-report/results.json would be overwritten; keep it elsewhere, or give --out"


def test_gate_writes_its_decision_in_any_format(run, tmp_path):
    code, out, _ = run("gate", FLAT, "--baseline", POOLED, "-o", "a.json", "-o", "a.sarif")
    assert code == 1
    assert "gate failed" in out
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["judgement"]["exit_code"] == 1
    (found,) = json.loads((tmp_path / "a.sarif").read_text(encoding="utf-8"))["runs"]
    assert {r["baselineState"] for r in found["results"]} >= {"new", "unchanged"}
    code, out, _ = run("gate", FLAT, "-o", "-.xml")
    assert (code, out.startswith("<?xml")) == (1, True)
    assert "would overwrite" in run("gate", FLAT, "-o", FLAT)[2]


def test_explain_tells_every_rule_and_suggests_one(run):
    code, out, _ = run("explain")
    assert code == 0
    names = [line.split()[0] for line in out.splitlines()]
    assert {"clip-reconstruction", "inconclusive"} <= set(names)
    for name in names:
        code, out, _ = run("explain", name)
        assert code == 0
        assert all(part in out for part in (f"{name}: ", "Why: ", "What to do:\n  - ", "Evidence: "))
    code, out, error = run("explain", "clip-recon")
    assert (code, out) == (2, "")
    assert "did you mean clip-reconstruction?" in error
