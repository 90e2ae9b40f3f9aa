"""The command line as a user meets it: codes, one-line errors, and files that are whole or not there."""

import contextlib
import importlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from error_lines import error_after_progress, the_error
from onnx import TensorProto, helper
from short_scans import scanning, short

from auditor.attack import PRESETS
from auditor.cli import main as cli
from auditor.errors import UsageError

MODELS = Path(__file__).parents[1] / "models_for_scans.py"


def conv_net(path: Path, **change) -> Path:
    """A small ONNX net made by onnx's own helper."""
    g = np.random.default_rng(0)
    weight = change.get("weight", (0.1 * g.normal(size=(4, 3, 3, 3, 3))).astype(np.float32))
    head = (0.1 * g.normal(size=(10, 4))).astype(np.float32)
    nodes = [
        helper.make_node(change.get("op", "Conv"), ["x", "w"], ["a"], name="first", pads=[1] * 6),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("GlobalAveragePool", ["b"], ["c"]),
        helper.make_node("Flatten", ["c"], ["d"]),
        helper.make_node("Gemm", ["d", "h", "hb"], ["y"], transB=1),
    ]
    graph = helper.make_graph(
        nodes, "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 10])],
        [onnx.numpy_helper.from_array(v, n) for n, v in (("w", weight), ("h", head), ("hb", np.zeros(10, np.float32)))],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 10
    onnx.save(model, path)
    return path


def no_parameters(path: Path) -> Path:
    graph = helper.make_graph(
        [helper.make_node("GlobalAveragePool", ["x"], ["a"]), helper.make_node("Flatten", ["a"], ["y"])], "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 10
    onnx.save(model, path)
    return path


def external(path: Path) -> Path:
    conv_net(path)
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="gone.data", size_threshold=0)
    (path.parent / "gone.data").unlink()
    return path


def text(path: Path) -> Path:
    path.write_text("this is not a model\n" * 50)
    return path


def empty(path: Path) -> Path:
    path.write_bytes(b"")
    return path


def truncated(path: Path) -> Path:
    whole = conv_net(path).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return path


def nan(path: Path) -> Path:
    weight = np.ones((4, 3, 3, 3, 3), np.float32)
    weight[1, 2, 0, 0, 0] = np.nan
    return conv_net(path, weight=weight)


@pytest.mark.parametrize(
    ("make", "code", "says"),
    [
        (lambda p: p, 2, "bad.onnx"),
        (empty, 3, "empty"),
        (text, 3, "bad.onnx"),
        (truncated, 3, "bad.onnx"),
        (external, 3, "gone.data"),
        (lambda p: conv_net(p, op="Convolve9"), 3, "Convolve9"),
        (no_parameters, 3, "parameter"),
        (nan, 3, "w"),
    ],
    ids=["missing", "empty", "text", "truncated", "external data", "operator", "no parameters", "NaN"],
)
def test_a_bad_model_is_one_line_and_leaves_nothing(run, tmp_path, make, code, says):
    make(tmp_path / "bad.onnx")
    there = set(tmp_path.iterdir())
    got, out, err = run("scan", "bad.onnx", "--out", "report")
    assert got == code, err
    assert says in the_error(err)
    assert out == ""
    assert set(tmp_path.iterdir()) == there


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["--input-shape", "3,8,64,64"], 2, "--input-shape"),
        (["--input-shape", "banana"], 2, "--input-shape"),
        (["--max-time", "soon"], 2, "--max-time"),
        (["--preset", "quick"], 2, "--preset"),
        (["--bn", "frozen"], 2, "--bn"),
        (["--trainable", "nothing.*"], 2, "--trainable"),
        (["--device", "cuda:7"], 2, "--device"),
        (["--probes", "absent.mp4"], 2, "absent.mp4"),
        (["--probes", "noise.mp4"], 2, "noise.mp4"),
        (["--probes", "one.npz"], 2, "frame"),
        (["--probes", "black.npz"], 2, "single colour"),
        (["-o", "report.docx"], 2, ".docx"),
        (["--no-such-option"], 2, "--no-such-option"),
        (["--fail-on", "sometimes"], 2, "--fail-on"),
        (["--loss", "huber"], 2, "--loss"),
        (["--algorithm", "fedprox"], 2, "--algorithm"),
        (["--local-epochs", "3"], 2, "add --algorithm fedavg"),
        (["--momentum", "0.9"], 2, "add --algorithm fedavg"),
        (["--algorithm", "fedavg", "--learning-rate", "0"], 2, "--learning-rate"),
        (["--algorithm", "fedavg", "--learning-rate", "1e30"], 2, "smaller --learning-rate"),
        (["--algorithm", "fedavg", "--momentum", "1"], 2, "--momentum"),
        (["--algorithm", "fedavg", "--local-epochs", "0"], 2, "--local-epochs"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_a_bad_option_is_one_line_and_leaves_nothing(run, tmp_path, args, code, says):
    conv_net(tmp_path / "net.onnx")
    (tmp_path / "noise.mp4").write_bytes(os.urandom(4000))
    np.savez(tmp_path / "one.npz", np.zeros((1, 16, 16, 3), np.uint8))
    np.savez(tmp_path / "black.npz", np.zeros((8, 16, 16, 3), np.uint8))
    there = set(tmp_path.iterdir())
    got, _, err = run("scan", "net.onnx", *args)
    assert got == code, err
    assert says in the_error(err)
    assert set(tmp_path.iterdir()) == there


def test_without_a_command_the_help_is_all_that_is_said(run):
    code, out, err = run()
    assert (code, err) == (2, "")
    assert "Usage:" in out


def test_an_output_folder_that_cannot_be_written(run, tmp_path):
    conv_net(tmp_path / "net.onnx")
    (tmp_path / "file").write_text("in the way")
    got, _, err = run("scan", "net.onnx", "--out", "file/report")
    assert got == 2
    assert "file" in the_error(err)


@pytest.fixture(scope="module")
def scanned(tmp_path_factory):
    """A folder in which the whole battery was run on a net, its results, page and document; and what was printed."""
    folder = tmp_path_factory.mktemp("scanned")
    conv_net(folder / "net.onnx")
    out, err = io.StringIO(), io.StringIO()
    arguments = ["scan", "net.onnx", "-o", "a/results.json", "-o", "b.html", "-o", "c.pdf", "--seed", "3"]
    with (
        contextlib.chdir(folder),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.MonkeyPatch.context() as patch,
        scanning(short(30), enhanced=1),
    ):
        patch.setattr(sys, "argv", ["fl-audit", *arguments])
        with pytest.raises(SystemExit) as left:
            cli.main()
    return folder, int(left.value.code or 0), out.getvalue(), err.getvalue()


def test_a_scan_writes_what_was_asked_for_and_report_renders_it_again(scanned, run, tmp_path):
    folder, got, out, err = scanned
    assert got in (0, 1, 4), err
    assert "Traceback" not in err
    assert re.search(r"FAIL|WARN|PASS|INCONCLUSIVE", out)
    assert len(out.splitlines()) <= 30
    assert (folder / "c.pdf").read_bytes()[:5] == b"%PDF-"
    assert not (folder / "fl-audit-report").exists()
    assert not (tmp_path / "net.onnx").exists()
    shutil.copytree(folder / "a", tmp_path / "a")
    again, out, _ = run("report", "a/results.json", "--out", "again")
    assert again == 0
    assert out.split() == ["again/report.html", "again/report.pdf"]
    assert (tmp_path / "again" / "report.html").read_text() == (folder / "b.html").read_text()
    refused, _, err = run("report", "a/results.json", "-o", "a/results.json")
    assert refused == 2
    assert "overwrite" in the_error(err)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_numbers(scanned, run, tmp_path):
    conv_net(tmp_path / "net.onnx")
    with scanning(short(30), enhanced=0):
        run("scan", "net.onnx", "-o", "b.json", "--seed", "3")
    a, b = (json.loads(path.read_text()) for path in (scanned[0] / "a" / "results.json", tmp_path / "b.json"))
    for x, y in zip(a["findings"], b["findings"], strict=True):
        assert [r["score"] for r in x["results"]] == [r["score"] for r in y["results"]]
    assert a["verdict"] == b["verdict"]


def test_interrupting_leaves_one_line_and_no_report(run, tmp_path):
    conv_net(tmp_path / "net.onnx")
    out, err = tmp_path / "out.txt", tmp_path / "err.txt"
    with out.open("w") as to_out, err.open("w") as to_err:
        job = subprocess.Popen(
            [sys.executable, "-m", "auditor", "scan", "net.onnx", "--out", "report"],
            cwd=tmp_path,
            stdout=to_out,
            stderr=to_err,
            # Jobs in the background inherit an ignored SIGINT; a person at a terminal has the default.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        while "controls" not in err.read_text():
            assert job.poll() is None, err.read_text()
            time.sleep(0.1)
        job.send_signal(signal.SIGINT)
        assert job.wait(timeout=60) == 130
    last = error_after_progress(err.read_text())
    assert "interrupted; no report was written" in last
    assert out.read_text() == ""
    # What was finished is kept, and nothing else.
    kept = sorted(p.name for p in (tmp_path / "report").rglob("*") if p.is_file())
    assert not [name for name in kept if not name.endswith((".json", ".safetensors", "lock")) or "results" in name]
    assert bool(kept) == ("the same command goes on from there" in last)
    if kept:
        assert run("clean", "report")[0] == 0
        assert list((tmp_path / "report").iterdir()) == []


def test_help_and_version_need_no_torch():
    script = (
        "import sys\nsys.argv = ['fl-audit', *{args}]\nfrom auditor.cli.main import main\n"
        "try:\n    main()\nfinally:\n"
        "    heavy = {{'torch', 'onnx', 'numpy', 'weasyprint', 'msgspec'}} & set(sys.modules)\n"
        "    assert not heavy, heavy\n"
    )
    for args in (["--help"], ["--version"], ["scan", "--help"], ["report", "--help"]):
        done = subprocess.run(
            [sys.executable, "-c", script.format(args=args)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout


def test_list_names_every_attack_and_probe(run):
    code, out, _ = run("list")
    assert code == 0
    for attack in PRESETS["fast"].attacks:
        assert attack.name in out
    assert "park_walker" in out
    assert run("list", "attax")[0] == 2


def test_doctor_finds_a_working_installation(run):
    code, out, _ = run("doctor")
    assert code == 0, out
    assert "shipped probes: 7 clips" in out
    assert "ONNX Runtime worker: a process of its own runs a model" in out
    for package in ("onnxscript", "timm", "transformers"):
        assert package in out


def test_doctor_notes_what_is_optional_and_missing(run, monkeypatch):
    def missing(package):
        raise metadata.PackageNotFoundError(package)

    monkeypatch.setattr(metadata, "version", missing)
    code, out, _ = run("doctor")
    assert code == 0, out
    assert "note  timm models: timm is not installed (optional) -> pip install 'fl-audit[timm]'" in out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["scan", "m.onnx"], "no report was written"),
        (["export", "m.py:net", "-o", "m.onnx"], "no file was written"),
        (["inspect", "m.onnx"], "nothing was written"),
        (["report", "results.json"], "not finished"),
        (["doctor"], "interrupted"),
        ([], "interrupted"),
    ],
)
def test_an_interrupt_tells_what_the_command_left_undone(arguments, told):
    text = cli._unfinished(arguments)
    assert text.startswith("interrupted")
    assert told in text


def test_an_internal_error_is_one_line_with_its_own_code(run, tmp_path, monkeypatch):
    conv_net(tmp_path / "net.onnx")

    def broken(*args, **kwargs):
        raise ZeroDivisionError("a defect\nwith two lines")

    monkeypatch.setattr("auditor.pipeline.scan", broken)
    code, _, err = run("scan", "net.onnx")
    assert code == 5
    assert "ZeroDivisionError: a defect" in the_error(err)


def test_out_of_memory_is_told_as_such(run, tmp_path, monkeypatch):
    conv_net(tmp_path / "net.onnx")

    def broken(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr("auditor.pipeline.scan", broken)
    code, _, err = run("scan", "net.onnx")
    assert code == 5
    assert "out of memory" in the_error(err)


def test_arguments_pools_and_trust_reach_the_model(run, monkeypatch):
    wanted = {}

    def refuse(source, **options):
        wanted.update(options, source=source)
        raise UsageError("stop here", "nothing to do")

    importlib.import_module("auditor.pipeline.scan")
    monkeypatch.setattr(sys.modules["auditor.pipeline.scan"], "load", refuse)
    given = ("--arg", "depth=4", "--arg", "kind=slow", "--temporal-pool", "max", "--trust-model")
    assert run("scan", "timm:resnet18", *given)[0] == 2
    assert wanted["arg"] == (("depth", 4), ("kind", "slow"))
    assert (wanted["temporal_pool"], wanted["trust_model"], wanted["source"]) == ("max", True, "timm:resnet18")
    for wrong in (("--arg", "depth"), ("--arg", "a=1", "--arg", "a=2"), ("--temporal-pool", "median")):
        code, _, err = run("scan", "timm:resnet18", *wrong)
        assert code == 2
        assert wrong[0] in the_error(err)


def test_a_file_that_can_run_code_exits_with_3(run, tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "m.onnx")
    code, _, err = run("scan", str(tmp_path / "m.onnx"))
    assert code == 3
    assert "python -c" in the_error(err)
    assert "--trust-model" in err
