"""`fl-audit inspect` and `fl-audit export` from outside: what they print, where, and with which exit code."""

import inspect as introspection
import json
import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import onnx
import pytest
import torch
from conformity import conforms
from PIL import Image

from auditor.cli import main as cli
from auditor.document_options import DocumentOptions
from auditor.errors import AuditError
from auditor.gate_options import GateOptions
from auditor.output_options import ScanFiles, WorkOptions
from auditor.pipeline import ScanOptions, Silent
from auditor.pipeline.inspection import inspect

ROOT = Path(__file__).parents[2]
FACTORY = """
import torch
from torch import nn

class Net(nn.Module):
    input_shape = (3, 8, 16, 16)
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv3d(3, 4, 3, padding=1), nn.BatchNorm3d(4)
        self.head = nn.Linear(4, 5)
    def forward(self, x):
        return self.head(torch.relu(self.norm(self.conv(x))).mean((2, 3, 4)))

class Strided(Net):
    # takes frames for a batch without moving the time axis first: a layout error
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
    def forward(self, x):
        b, c, t, h, w = x.shape
        y = torch.relu(self.norm(self.conv(x.reshape(b * t, c, h, w))))
        return self.head(y.reshape(b, t, 4, h, w).mean((1, 3, 4)))

def net():
    torch.manual_seed(0)
    return Net()

def strided():
    torch.manual_seed(0)
    return Strided()
"""
KEYS = [
    "format", "sha256", "input", "parameters", "operators", "fidelity", "flags", "determinacy", "client_check",
    "privacy",
]  # fmt: skip


@pytest.fixture
def nets(tmp_path):
    path = tmp_path / "nets.py"
    path.write_text(FACTORY)
    return path


def apart(*arguments, cwd):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "COLUMNS": "80"}
    return subprocess.run(
        [sys.executable, "-m", "auditor", *map(str, arguments)],
        cwd=cwd, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def looked(model, **options):
    return inspect(ScanOptions(model=str(model), device="cpu", **options), Silent())


def test_json_is_all_that_goes_to_stdout_and_a_frame_is_written(nets, tmp_path) -> None:
    done = apart("inspect", f"{nets}:net", "--json", "--frame", "f.png", "--trainable", "head*", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout, parse_constant=pytest.fail)
    assert list(found) == KEYS
    conforms(found, "inspection")
    assert [(p["name"], p["trainable"]) for p in found["parameters"]][-2:] == [
        ("head.weight", True),
        ("head.bias", True),
    ]
    assert found["parameters"][0] == {
        "name": "conv.weight", "shape": [4, 3, 3, 3, 3], "trainable": False, "layer": "conv",
    }  # fmt: skip
    fidelity = found["fidelity"]
    assert {"parity_max_error", "gradient_check", "double_backward", "batchnorm", "batch", "notes"} <= set(fidelity)
    assert (fidelity["batchnorm"], fidelity["double_backward"], fidelity["parity_max_error"]) == ("kept", True, None)
    assert fidelity["gradient_check"] < 1e-6
    assert fidelity["classes"] == 5
    assert found["operators"]["Conv3d"] == 1
    assert any(flag["layer"] == "head" for flag in found["flags"])
    with Image.open(tmp_path / "f.png") as picture:
        assert picture.format == "PNG"
    assert not (tmp_path / "fl-audit-report").exists()


def test_the_view_for_people_fits_a_narrow_terminal(run, nets, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = run("inspect", f"{nets}:net")
    assert code == 0
    for word in ("Fidelity", "Input, as guessed", "Operators", "Layers with parameters (3)", "conv3d", "BatchNorm"):
        assert word in out
    assert max(map(len, out.splitlines())) <= 80
    assert "\x1b" not in out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nothing.onnx"], 2, "nothing.onnx"),
        (["nets.py:net", "--frame", "f.jpg"], 2, "not a PNG"),
        (["nets.py:net", "--layout", "ABC"], 2, "--layout ABC is unknown"),
        (["nets.py:net", "--trainable", "nose*"], 2, "matches none"),
        (["broken.onnx"], 3, "ONNX"),
    ],
)
def test_errors_have_a_documented_code_and_leave_stdout_alone(
    arguments, code, message, nets, tmp_path, monkeypatch, capsys
) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"\x08\x07\x12\x04junk" * 3)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AuditError, match=message) as caught:
        cli.app(["inspect", *arguments, "--json"], standalone_mode=False)
    assert caught.value.exit_code == code
    assert "\n" not in str(caught.value)
    assert capsys.readouterr().out == ""


def test_export_verifies_what_it_writes_and_inspect_reads_it_as_kept(run, nets, tmp_path) -> None:
    code, out, err = run("export", "nets.py:net", "-o", "m.onnx")
    assert (code, err) == (0, "")
    assert "6 of 6 under their own names" in out
    assert "21 of 62" in out
    assert out.splitlines()[-1] == "next: fl-audit scan m.onnx"
    found = looked(tmp_path / "m.onnx").document
    assert found["fidelity"]["batchnorm"] == "kept"
    assert found["fidelity"]["batch"] == "dynamic"
    assert set(found["fidelity"]["parity"]) == {"1", "2"}
    assert {p["name"] for p in found["parameters"]} >= {"conv.weight", "norm.weight", "head.bias"}
    code, _, err = run("export", "nets.py:net", "-o", "m.onnx")
    assert code == 2
    assert "--force" in err


FRAME_NET = """
import torch
from torch import nn

def net():
    torch.manual_seed(0)
    made = nn.Sequential(nn.Conv2d(3, 6, 3, 2), nn.BatchNorm2d(6), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    made.append(nn.Linear(6, 5))
    return made
"""


def test_the_next_line_repeats_what_the_file_does_not_say_and_quotes_it(run, tmp_path) -> None:
    import shlex

    (tmp_path / "frames.py").write_text(FRAME_NET)
    code, out, err = run(
        "export", "frames.py:net", "-o", "my net.onnx", "--layout", "NCHW", "--input-shape", "4,3,16,16",
        "--temporal-pool", "max", "--mean", "0.5,0.5,0.5",
    )  # fmt: skip
    assert (code, err) == (0, "")
    words = shlex.split(out.splitlines()[-1])
    assert words[:4] == ["next:", "fl-audit", "scan", "my net.onnx"]
    assert words[words.index("--temporal-pool") + 1] == "max"
    code, out, err = run("inspect", *words[3:], "--json")
    assert code == 0, err
    found = json.loads(out)
    assert (found["input"]["frames"], found["input"]["layout"], found["input"]["mean"]) == (4, "NCHW", [0.5] * 3)


def test_names_of_a_hostile_file_are_inert(nets, tmp_path) -> None:
    from rich.console import Console

    from auditor.model.onnx.export import export_onnx
    from auditor.report.inspection import inspection_view

    export_onnx(f"{nets}:net", tmp_path / "m.onnx")
    proto = onnx.load(str(tmp_path / "m.onnx"))
    bad = "\x1b[31m[red]<script>\u202e" + "x" * 5000
    for tensor in proto.graph.initializer:
        if tensor.name == "head.weight":
            tensor.name = bad
    for node in proto.graph.node:
        node.input[:] = [bad if name == "head.weight" else name for name in node.input]
        node.name += bad
    proto.producer_name = bad
    onnx.save(proto, str(tmp_path / "bad.onnx"))
    found = looked(tmp_path / "bad.onnx")
    console = Console(width=80, record=True, file=open(os.devnull, "w"), color_system=None)  # noqa: SIM115
    inspection_view(found.document, found.layers, found.target.name, console, everything=True)
    console.file.close()
    text = console.export_text() + json.dumps(found.document, ensure_ascii=False)
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "x" * 400 not in text
    assert "[red]" in text  # shown as it is, not as a colour


def test_a_wrong_layout_is_visible_in_what_the_first_layer_reads(nets) -> None:
    """Frames taken for a batch hold three moments in their colour channels, so moving edges differ in colour."""
    from auditor.pipeline.input_preview import input_preview
    from auditor.probe import shipped_probes

    def colour(name):
        target = looked(f"{nets}:{name}").target
        seen = input_preview(target, shipped_probes(target.input, 1)[0].clip)
        return seen, torch.stack(seen.frames)

    right, good = colour("net")
    wrong, bad = colour("strided")
    clip = shipped_probes(looked(f"{nets}:net").target.input, 1)[0].clip
    torch.testing.assert_close(good, clip)
    assert right.read_shape == (1, 3, 8, 16, 16)
    assert wrong.read_shape == (8, 3, 16, 16)
    assert (bad - clip).abs().max() > 0.2
    torch.testing.assert_close(bad[0], clip[:3, 0])


def test_where_each_guess_comes_from_is_told(nets) -> None:
    found = looked(f"{nets}:net", mean=(0.5,), std=(0.25,)).document["input"]
    assert found["origins"]["size"] == "stated by the factory"
    assert found["origins"]["mean"] == "given by --mean"
    assert found["origins"]["value_range"].startswith("taken as")
    plain = looked(f"{nets}:net").document["input"]
    assert found["entering"]["maximum"] == pytest.approx((plain["entering"]["maximum"] - 0.5) / 0.25, abs=1e-5)


def test_inspect_takes_every_option_of_scan_that_says_what_the_model_and_the_client_are() -> None:
    def named(command):
        return set(introspection.signature(command).parameters)

    of_the_audit = {"probes", "preset", "what_if", "malicious_server", "max_time", "fail_on", "out", "output"}
    of_the_audit |= {"reference", "sr", "lpips", "faces", "layers"}
    of_the_audit |= {"replay", "sign_key"} | {
        f.name for kind in (GateOptions, ScanFiles, WorkOptions, DocumentOptions) for f in fields(kind)
    }
    assert named(cli.scan) - of_the_audit <= named(cli.inspect_model)
