"""The script for a machine with a GPU: what it says where there is none, and that one section cannot cost another."""

import argparse
import dataclasses
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
sys.path.append(str(ROOT / "benchmarks"))
import gpu  # noqa: E402

GIVEN = argparse.Namespace(device="cpu", small=True, peer_path="", keep="", limit=None)
MACHINE = gpu.SECTIONS[0]


def script(tmp_path, monkeypatch, text: str) -> None:
    """Let every section run this program in place of its own."""
    (tmp_path / "section.py").write_text(text)
    monkeypatch.setattr(gpu, "__file__", str(tmp_path / "section.py"))


def test_without_a_gpu_it_says_so(monkeypatch, capsys):
    monkeypatch.setattr(gpu, "gpu_is_missing", lambda device: True)
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    assert gpu.main() == 2
    assert "no GPU here" in capsys.readouterr().err


def test_the_limits_hold_ten_minutes():
    assert sum(section.limit for section in gpu.SECTIONS) <= gpu.TOTAL <= 600


def test_what_is_not_installed_is_left_out():
    made = gpu.run(dataclasses.replace(MACHINE, needs=("no_such_module",)), GIVEN, 100.0)
    assert (made.state, made.reason) == ("left out", "no_such_module is not installed")
    assert gpu.run(MACHINE, GIVEN, 1.0).state == "left out"


def test_a_section_that_breaks_is_told(tmp_path, monkeypatch):
    script(tmp_path, monkeypatch, "import os, sys\nprint('cause of it', file=sys.stderr, flush=True)\nos.abort()")
    made = gpu.run(MACHINE, GIVEN, 100.0)
    assert made.state == "failed"
    assert "cause of it" in made.reason


def test_one_failure_leaves_the_others_and_is_the_exit_code(tmp_path, monkeypatch, capsys):
    text = 'import json, sys\nprint(json.dumps({"error": "no"} if "machine" in sys.argv else {"fine": 1}))'
    script(tmp_path, monkeypatch, text)
    monkeypatch.setattr(gpu, "SECTIONS", gpu.SECTIONS[:2])
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cpu", "--small", "--out", str(tmp_path / "out.json")])
    assert gpu.main() == 1
    assert [o["state"] for o in json.loads((tmp_path / "out.json").read_text())] == ["failed", "ran"]
    assert '{"fine": 1}' in capsys.readouterr().out


@pytest.mark.slow
def test_a_section_that_hangs_is_ended_with_all_it_started(tmp_path, monkeypatch):
    wait = "import subprocess, sys, time\nsubprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
    script(tmp_path, monkeypatch, wait + "time.sleep(60)")
    begun = time.monotonic()
    made = gpu.run(dataclasses.replace(MACHINE, small_limit=5.0), GIVEN, 100.0)
    assert made.state == "timed out"
    assert time.monotonic() - begun < 30.0


@pytest.mark.slow
def test_the_dry_run_runs_every_section(tmp_path):
    command = [sys.executable, "benchmarks/gpu.py", "--device", "cpu", "--small", "--out", str(tmp_path / "out.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    made = {o["section"]: o for o in json.loads((tmp_path / "out.json").read_text())}
    assert made.keys() == {section.name for section in gpu.SECTIONS}
    assert {o["state"] for name, o in made.items() if name != "peers"} == {"ran"}
    assert made["steps r3d_18"]["measured"]["matching_over_training"] > 1.0
    assert not made["scan r3d_18"]["measured"]["failed"]
    assert not made["scan VideoMAE-base"]["measured"]["failed"]
