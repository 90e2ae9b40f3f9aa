"""Errors that tell the truth: what failed, where, and what to do, in one line and at once."""

import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from short_scans import scanning, short

from auditor.report import outputs

ROOT = Path(__file__).parents[2]
NETS = """
import torch
from torch import nn
def flat():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 64, 8), nn.ReLU(), nn.Linear(8, 3))
    net.input_shape, net.layout = (3, 4, 8, 8), "NCTHW"
    return net
def table(): return nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 3))
def text(): return nn.Sequential(nn.Embedding(100, 16), nn.Flatten(), nn.Linear(128, 3))
def sound(): return nn.Sequential(nn.Conv1d(1, 8, 9), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(8, 3))
def series(): return nn.Sequential(nn.LSTM(10, 8))
def image(): return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
def features():
    net = nn.Sequential(nn.Flatten(), nn.Linear(128, 3))
    net.input_shape = (16, 8)
    return net
class Table(nn.Module):
    def __init__(self): super().__init__(); self.kinds, self.head = nn.Embedding(10, 4), nn.Linear(7, 5)
    def forward(self, kinds, values): return self.head(torch.cat([self.kinds(kinds), values], 1))
def categories(): return Table()
def quantised():
    net = torch.ao.quantization.quantize_dynamic(table(), {nn.Linear})
    net.input_shape, net.layout = (3, 4, 8, 8), "NCTHW"
    return net
"""


@pytest.fixture
def run(run, tmp_path):
    (tmp_path / "nets.py").write_text(NETS)
    return run


@pytest.mark.parametrize(
    ("factory", "code", "words"),
    [
        ("table", 3, "models of tables"),
        ("series", 3, "models of tables"),
        ("text", 3, "models of text"),
        ("features", 3, "models of tables and features"),
        ("categories", 3, "models of tables and text"),
        ("sound", 3, "models of sound"),
        ("quantised", 3, "audit the float model"),
        ("image", 3, "reads single images"),
    ],
)
def test_models_of_something_else_are_named_as_such(run, factory, code, words) -> None:
    found, _, err = run("inspect", f"nets.py:{factory}")
    assert (found, words in err) == (code, True), err


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "command", [["scan", "model.onnx"], ["inspect", "model.onnx"], ["scan", "nets.py:flat", "--weights", "model.onnx"]]
)
def test_a_file_that_may_not_be_read_is_a_wrong_path(run, tmp_path, monkeypatch, command) -> None:
    (tmp_path / "model.onnx").write_bytes(b"secret")
    may = os.access
    # Tests may run as root, who may read everything.
    monkeypatch.setattr(os, "access", lambda path, mode: "model.onnx" not in str(path) and may(path, mode))
    code, _, err = run(*command)
    assert code == 2
    assert "permission" in err
    assert "internal" not in err


def test_a_folder_that_may_not_be_entered_is_told_and_not_taken_for_a_missing_file(run, tmp_path, monkeypatch) -> None:
    (tmp_path / "closed").mkdir()
    may = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "closed" and may(path, mode))
    code, _, err = run("scan", "closed/model.onnx")
    assert code == 2
    assert "closed may not be entered (permission denied)" in err


@pytest.mark.parametrize(
    "arguments",
    [["scan", "gone.onnx"], ["inspect", "gone.py:net"], ["attack", "hf:gone"], ["export", "gone.py:net", "-o", "m"],
     ["scan", "nets.py:flat", "--weights", "gone.pt"], ["scan", "nets.py:flat", "--probes", "gone"],
     ["scan", "nets.py:flat", "--loss", "gone.py:loss"], ["inspect", "nets.py:flat", "--onnx-ops", "gone.py"],
     ["inspect", "gone.module:net"], ["scan", "nets.py:gone"],
     ["filter", "gone.py:filter"], ["study", "gone.toml"],
     ["replay", "nets.py:flat", "--update", "gone.npz"], ["diff", "gone.json", "gone.json"], ["gate", "gone.json"],
     ["scan", "nets.py:flat", "--baseline", "gone.json"], ["scan", "nets.py:flat", "--config", "gone.toml"]],
)  # fmt: skip
def test_a_wrong_path_is_told_before_anything_slow_is_imported(tmp_path, arguments) -> None:
    (tmp_path / "nets.py").write_text(NETS)
    script = (
        f"import sys\nsys.argv = ['fl-audit', *{arguments}]\nfrom auditor.cli.main import main\n"
        "try:\n    main()\nfinally:\n    assert not {'torch', 'onnx', 'numpy', 'PIL'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert re.search("there is no |cannot read |defines no ", done.stderr)
    assert "gone" in done.stderr


@pytest.mark.parametrize("command", [["list"], ["schema"], ["scan", "--help"], ["--help"]])
def test_a_reader_that_closes_the_pipe_is_no_finding(command) -> None:
    script = f"import sys; sys.argv = ['fl-audit', *{command}]; from auditor.cli.main import main; main()"
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-c", script], stdout=writing, stderr=subprocess.PIPE, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


def scanned(run, *arguments):
    with scanning(short(attacks=(), probes=1), 0):
        return run("scan", "nets.py:flat", *arguments)


def test_a_full_disk_at_the_pdf_keeps_the_verdict_and_says_how_to_go_on(run, tmp_path, monkeypatch) -> None:
    whole = outputs.replace_file

    def full(path: Path, content: bytes) -> None:
        if path.suffix == ".pdf":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        whole(path, content)

    monkeypatch.setattr(outputs, "replace_file", full)
    monkeypatch.setitem(outputs.FORMATS, ".pdf", "auditor.report.page:to_html")
    code, out, err = scanned(run, "-o", "r.json", "-o", "r.pdf", "-o", "r.html")
    assert code == json.loads((tmp_path / "r.json").read_text())["verdict"]["exit_code"] == 1
    assert "FAIL" in out
    last = err.strip().splitlines()[-1]
    assert "cannot write r.pdf (No space left on device)" in last
    assert "written: r.json, r.html" in last
    assert "fl-audit report r.json -o r.pdf" in last


def test_nothing_written_is_an_error_though_the_verdict_is_shown(run, monkeypatch) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(outputs, "replace_file", full)
    code, out, err = scanned(run, "-o", "r.json")
    assert (code, "FAIL" in out, "No space left" in err) == (2, True, True)


def test_a_full_disk_is_no_defect_of_the_program(run, monkeypatch) -> None:
    """What a write raises names no file."""

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("auditor.report.atomic.os.fsync", full)
    code, _, err = run("init", "-o", "new.toml")
    assert (code, "No space left on device" in err, "internal" in err) == (2, True, False), err


def test_errors_speak_of_the_option_that_was_given(run, tmp_path) -> None:
    (tmp_path / "taken").write_text("")
    code, _, err = run("scan", "nets.py:flat", "--out", "taken")
    assert (code, "--out taken is a file" in err) == (2, True)
    code, _, err = run("scan", "nets.py:flat", "--out", "taken/below")
    assert (code, "choose another place with --out" in err) == (2, True)
    code, _, err = run("scan", "nets.py:flat", "-o", "taken/below.json")
    assert (code, "choose another place with -o" in err) == (2, True)


def test_an_attack_replaces_results_only_when_told_to(run, tmp_path) -> None:
    attack = ("attack", "nets.py:flat", "--attack", "linear-input", "--out", "kept")
    assert run(*attack)[0] == 0
    before = (tmp_path / "kept" / "result.json").read_bytes()
    code, _, err = run(*attack, "--seed", "1")
    assert (code, "--force" in err) == (2, True)
    assert (tmp_path / "kept" / "result.json").read_bytes() == before
    assert run(*attack, "--seed", "1", "--force")[0] == 0


def test_help_keeps_its_brackets_and_a_bare_call_prints_it(run) -> None:
    for command in ("scan", "attack", "study", "inspect", "export"):
        told = " ".join(run(command, "--help")[1].replace("│", " ").split())
        assert re.search(r"\[[^\]]*default: ", told), command
    assert "[faces]" in run("scan", "--help")[1].replace("\n", " ")
    assert "Commands" in "".join(run()[1:])


def test_o_is_a_file_in_every_command_that_has_it(run) -> None:
    for command in ("scan", "report", "export"):
        lines = [line for line in run(command, "--help")[1].splitlines() if re.match(r"│[ *]+(--\S+ +)?-o  ", line)]
        assert lines, command
        assert all("FILE" in line for line in lines), lines
    assert not [line for line in run("attack", "--help")[1].splitlines() if re.match(r"│[ *]+(--\S+ +)?-o  ", line)]


def test_an_interrupt_while_the_command_line_is_imported_is_one_line() -> None:
    script = (
        "import sys, importlib.abc\n"
        "class Interrupted(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'typer':\n"
        "            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupted())\n"
        "from auditor.__main__ import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "fl-audit: interrupted; nothing had begun\n"
