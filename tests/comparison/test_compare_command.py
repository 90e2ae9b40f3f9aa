"""Whole comparisons on the command line: one planted pair, and what a hostile user gives."""

import json

import pytest
from conformity import conforms
from short_scans import scanning, short

import auditor
from auditor.errors import UsageError
from auditor.pipeline.scan import scan

NETS = """
import torch
from torch import nn


def net(pool="flatten", width=8):
    torch.manual_seed(0)
    layers = [nn.Conv3d(3, width, 3, padding=1, stride=2), nn.ReLU()]
    if pool == "average":
        layers.append(nn.AdaptiveAvgPool3d(1))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * (1 if pool == "average" else 256), 10))


def flat():
    return net("flatten")


def pooled():
    return net("average")


def broken():
    raise RuntimeError("no such luck")
"""
SHAPE = ("--input-shape", "3,8,16,16", "--device", "cpu")


@pytest.fixture
def nets(tmp_path):
    (tmp_path / "nets.py").write_text(NETS, encoding="utf-8")
    return tmp_path / "nets.py"


@pytest.mark.slow
def test_a_flattened_head_leaks_clearly_more_than_an_averaged_one(run, nets, tmp_path, monkeypatch):
    """The comparison is interrupted once, after the first audit, and goes on from there."""
    command = ("compare", f"{nets}:pooled", f"{nets}:flat", *SHAPE, "--out", tmp_path / "out")
    done = []

    def until_the_second(*given):
        if done:
            raise KeyboardInterrupt
        done.append(given)
        return scan(*given)

    with scanning(short(20, ("layer-recursion",), probes=3)):
        with monkeypatch.context() as patched:
            patched.setattr("auditor.comparison.run.scan", until_the_second)
            code, out, err = run(*command)
        assert (code, out) == (130, "")
        assert "nothing was compared; " in err
        parts = len(list((tmp_path / "out" / "unfinished").glob("*.json")))
        assert parts > 2
        code, out, err = run(*command)
    assert code == 1, err
    assert f"going on with an audit that was interrupted: {parts} of its parts are done" in " ".join(err.split())
    assert not (tmp_path / "out" / "unfinished").exists()
    results = json.loads((tmp_path / "out" / "comparison.json").read_text())
    conforms(results, "comparison")
    assert results["kind"] == "comparison"
    flat, pooled = results["candidates"]
    assert (flat["name"], pooled["name"], pooled["baseline"]) == ("nets.py:flat", "nets.py:pooled", True)
    assert flat["leakage"]["low"] > pooled["leakage"]["high"]
    assert (flat["first_rank"], flat["last_rank"], pooled["ties"]) == (1, 1, [])
    assert results["recommendations"] == []  # the baseline is what leaks less
    assert flat["parameters"] > pooled["parameters"]
    assert flat["operations"] > 0
    budgets = {run["budget"] for c in results["candidates"] for run in c["runs"]}
    assert len(budgets) == 1
    kept = [tmp_path / "out" / run["file"] for c in results["candidates"] for run in c["runs"]]
    assert all(json.loads(path.read_text())["schema"] == "fl-audit/results/2" for path in kept)
    assert {p.name for p in (tmp_path / "out").iterdir()} >= {"comparison.html", "comparison.md", "comparison.svg"}
    assert "nets.py:flat > nets.py:pooled" in out
    again, printed, _ = run("report", tmp_path / "out" / "comparison.json", "-o", tmp_path / "again.md")
    assert (again, printed.strip()) == (0, str(tmp_path / "again.md"))


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("{nets}:flat",), 2, "nothing to compare"),
        (("{nets}:flat", "{nets}:broken", *SHAPE), 2, "nets.py:broken: .*raised RuntimeError: no such luck"),
        (("{nets}:flat", "missing.onnx", *SHAPE), 2, "there is no file missing.onnx"),
        (("{nets}:flat", "{folder}/junk.onnx", *SHAPE), 3, "junk.onnx"),
        (("{nets}:flat", "{nets}:pooled"), 2, "input"),
        (("{nets}:net", "--vary", "depth=1,2", *SHAPE), 2, "has no parameter 'depth'"),
        (("{nets}:flat", "{nets}:pooled", "-o", "x.doc"), 2, "cannot tell the kind of x.doc"),
        (("{nets}:flat", "{nets}:pooled", "--out", "{nets}"), 2, "is a file"),
    ],
)
def test_what_cannot_be_compared_is_one_line_and_leaves_nothing(run, nets, tmp_path, arguments, code, says):
    import re

    (tmp_path / "junk.onnx").write_bytes(b"no model at all")
    before = set(tmp_path.iterdir()) | {tmp_path / "__pycache__"}
    given = [a.format(nets=nets, folder=tmp_path) for a in arguments]
    ended, out, err = run("compare", *given)
    assert (ended, out) == (code, "")
    line = err.strip().splitlines()[-1]
    assert line.startswith("fl-audit: ")
    assert re.search(says, line), line
    assert set(tmp_path.iterdir()) <= before


def test_python_refuses_as_the_command_does():
    with pytest.raises(UsageError, match="nothing to compare"):
        auditor.compare("a.onnx")
    with pytest.raises(UsageError, match="no model was given"):
        auditor.compare()
    with pytest.raises(UsageError, match="'clip' is unknown"):
        auditor.compare("a.onnx", "b.onnx", clip="canary")
