"""A model is exported, audited, baselined; a change opens its updates and fails the gate; reverted, it passes."""

import json
import os
import runpy
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import story_nets
from short_scans import scanning, short
from story_nets import exported
from typer.testing import CliRunner

from auditor.cli.main import app
from auditor.errors import AuditError
from auditor.verification.conclusion import verify

ROOT = Path(__file__).parents[2]
PROJECTS = ROOT / "examples" / "ci"
BASELINE = ("--baseline", "audits/baseline.json", "--fail-on-regression")
GATE = ("--baseline", "baseline.json", "--fail-on", "never", "--fail-on-regression", "--inconclusive", "new")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run `fl-audit ARGS` in an empty folder with a short preset; return the code and what was printed."""
    monkeypatch.chdir(tmp_path)

    def call(*args, attacks=None):
        with scanning(short(40, attacks, probes=2), enhanced=0):
            ran = CliRunner().invoke(app, list(args), standalone_mode=False)
        if isinstance(ran.exception, AuditError):
            raise ran.exception
        assert ran.exception is None, ran.exception
        return int(ran.return_value or 0), ran.output

    return call


def project(name, folder):
    """Copy a project of examples/ci into an empty folder, which is then the root of a repository."""
    shutil.copytree(PROJECTS / name, folder, dirs_exist_ok=True)
    (folder / ".git").mkdir()


def edited(old, new):
    """Change a line of the project's network, as a pull request does."""
    text = Path("net.py").read_text(encoding="utf-8")
    assert text.count(old) == 1
    Path("net.py").write_text(text.replace(old, new), encoding="utf-8")


def exported_by_project(monkeypatch):
    """Run export.py as it stands, with the network as it is now."""
    with monkeypatch.context() as patch:
        patch.syspath_prepend(str(Path.cwd()))
        sys.modules.pop("net", None)
        try:
            runpy.run_path("export.py")
        finally:
            sys.modules.pop("net", None)


def test_a_project_with_flower_fails_on_learned_positions_and_passes_with_fixed_ones_again(run, tmp_path, monkeypatch):
    project("flower", tmp_path)
    exported_by_project(monkeypatch)
    kept = Path("model.onnx").read_bytes()
    base, _ = run("scan", "-o", "audits/baseline.json", attacks=())
    edited('POSITIONS = "fixed"', 'POSITIONS = "learned"')
    exported_by_project(monkeypatch)
    code, said = run("scan", *BASELINE, "-o", "now.json", attacks=())
    edited('POSITIONS = "learned"', 'POSITIONS = "fixed"')
    exported_by_project(monkeypatch)
    assert Path("model.onnx").read_bytes() == kept
    again, _ = run("scan", *BASELINE, "-o", "now.json", attacks=())
    assert (base, code, again) == (4, 1, 0)
    failures = [line for line in said.splitlines() if line.startswith("gate failed")]
    assert "gate failed: clip-reconstruction (closed-form) is new" in failures[0]
    # Linear analysis sees the same change, where it has modes enough.
    assert all(line.startswith("gate failed: update-exposure (update) is worse") for line in failures[1:])
    # Labels are waived by the project's own file, and stay in sight.
    assert "waived" in said
    # Nothing changed since the last scan: its results are taken again.
    before, begun = json.loads(Path("now.json").read_text(encoding="utf-8")), time.process_time()
    code, said = run("scan", *BASELINE, "-o", "now.json", "-o", "now.github.sarif")
    assert time.process_time() - begun < 3.0
    assert code == 0
    assert json.loads(Path("now.json").read_text(encoding="utf-8")) == before
    log = json.loads(Path("now.github.sarif").read_text(encoding="utf-8"))
    places = [r["locations"][0]["physicalLocation"] for r in log["runs"][0]["results"]]
    assert {place["artifactLocation"]["uri"] for place in places} <= {"fl-audit.toml"}
    # The same results are held against another gate, without a scan.
    code, said = run("scan", "-o", "now.json", "--quiet")
    assert code == 4
    assert said.count("\n") == 1 or "nothing changed" in said
    assert verify(Path("now.json")).word == "VERIFIED"


def played(run, make, changed, attacks=None):
    """Baseline, change, revert; return codes and what the gate said of the change."""
    exported(make(), Path("model.onnx"))
    shutil.copy("model.onnx", "kept.onnx")
    base, _ = run("scan", "model.onnx", "-o", "baseline.json", attacks=attacks)
    shutil.copy("baseline.json", "now.json")
    exported(changed(), Path("model.onnx"))
    code, said = run("scan", "model.onnx", "-o", "now.json", *GATE, attacks=attacks)
    shutil.copy("kept.onnx", "model.onnx")
    again, _ = run("scan", "model.onnx", "-o", "now.json", *GATE, attacks=attacks)
    return base, code, again, said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "changed", "says"),
    [
        (story_nets.pooled, lambda: story_nets.pooled(flat=True), "clip-reconstruction (recursion) is new"),
        (story_nets.strided, lambda: story_nets.strided(1), "clip-reconstruction (recursion) is worse"),
    ],
)
def test_flatten_and_stride_1_fail_the_gate_and_pass_it_when_reverted(run, make, changed, says):
    _, code, again, said = played(run, make, changed)
    assert (code, again) == (1, 0)
    assert f"gate failed: {says}" in said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "old", "new"), [("pytorch", "POOL = True", "POOL = False"), ("flower", '"fixed"\n', '"learned"\n')]
)
def test_the_story_of_each_project_by_the_command_line_alone(tmp_path, monkeypatch, name, old, new):
    """With the whole preset, and processes of their own, as in a pipeline."""
    project(name, tmp_path)
    monkeypatch.chdir(tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def call(*args):
        done = subprocess.run([sys.executable, *args], env=environment, capture_output=True, text=True, check=False)
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stdout

    def scan(*args):
        return call("-m", "auditor", "scan", *args)

    assert call("export.py") == (0, "")
    assert scan("-o", "audits/baseline.json")[0] in (0, 4)
    edited(old, new)
    assert call("export.py")[0] == 0
    code, said = scan(*BASELINE)
    assert code == 1
    assert "gate failed: clip-reconstruction" in said
    assert call("-m", "auditor", "verify", "fl-audit-report/report.pdf")[0] == 0
    edited(new, old)
    assert call("export.py")[0] == 0
    assert scan(*BASELINE)[0] == 0
    begun = time.monotonic()
    assert scan(*BASELINE)[0] == 0
    assert time.monotonic() - begun < 10.0  # 3 s on an idle core
