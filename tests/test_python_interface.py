"""`import auditor`: what is public, what it costs, and that its example does what it says."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import auditor
from auditor.pipeline import Silent

ROOT = Path(__file__).parent.parent
PUBLIC = {
    "AuditError", "ExitCode", "Inconclusive", "NotAuditable", "UsageError",
    "__version__", "attack", "compare", "defend", "load", "operator", "scan",
}  # fmt: skip


def test_exactly_this_is_public():
    assert set(auditor.__all__) == PUBLIC
    assert all(getattr(auditor, name) is not None for name in PUBLIC)
    described = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in described or f"auditor.{name}" in described for name in PUBLIC)


def test_the_folder_of_attacks_does_not_hide_the_function():
    attacks = importlib.import_module("auditor.attack")
    assert auditor.attack is attacks
    with pytest.raises(auditor.UsageError, match="no model was given"):
        auditor.attack()
    with pytest.raises(AttributeError):
        auditor.anything  # noqa: B018 - the lookup is the test


def test_options_of_another_function_are_refused():
    with pytest.raises(auditor.UsageError, match="'preset' is unknown"):
        auditor.load("m.onnx", preset="fast")
    with pytest.raises(auditor.UsageError, match="'clip' is unknown"):
        auditor.scan("m.onnx", clip="canary")


def test_the_example_reads_attacks_and_refuses():
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "python_interface.py"), "0"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "TinyNet: 2 parameters, 6 classes" in done.stdout
    assert "linear-input: EXACT" in done.stdout
    assert "add --algorithm fedavg" in done.stdout


@pytest.mark.slow
def test_the_example_audits():
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "python_interface.py"), "60"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "verdict: " in done.stdout


def test_a_scan_is_what_the_command_runs_and_shows_nothing(monkeypatch):
    monkeypatch.setattr("auditor.pipeline.scan", lambda options, display: (options, display))
    options, display = auditor.scan("m.onnx", layout="NCTHW", max_time="5m", probes=str(ROOT / "README.md"))
    assert (options.model, options.layout, options.max_time) == ("m.onnx", "NCTHW", 300.0)
    assert options.probes == (ROOT / "README.md",)
    assert isinstance(display, Silent)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"attack": "guessing"}, "there is no attack guessing"),
        ({"clip": "nowhere.npz"}, "there is no clip nowhere.npz"),
        ({"defence": "hope"}, "--defence hope is unknown"),
        ({"attack": "linear-input", "reference": "first:1"}, "uses no reference frame"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_words_of_an_attack_are_refused_before_a_model_is_read_as_on_the_command_line(options, line, run, tmp_path):
    (tmp_path / "no.onnx").write_bytes(b"no model")
    with pytest.raises(auditor.UsageError, match=line) as refused:
        auditor.attack(str(tmp_path / "no.onnx"), **options)
    flags = [part for name, value in options.items() for part in (f"--{name}", value)]
    code, _, error = run("attack", "no.onnx", *flags)
    assert (code, error.strip().removeprefix("fl-audit: ")) == (2, str(refused.value))
