"""A model is exported, audited, baselined; a change opens its updates and fails the gate; reverted, it passes."""

import json
import shutil
import time
import warnings
from pathlib import Path

import pytest
import story_nets
import torch
from short_scans import scanning, short
from typer.testing import CliRunner

from auditor.cli.main import app
from auditor.errors import AuditError

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


def export(net, path):
    """As a training pipeline does: what the seed makes is the same file each time."""
    clip, open_batch = torch.zeros(1, 3, 4, 16, 16), {"clips": {0: "batch"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net.eval(), (clip,), path, dynamo=False, input_names=["clips"], output_names=["logits"],
            dynamic_axes=open_batch, do_constant_folding=False, opset_version=17,
        )  # fmt: skip


def played(run, make, changed, attacks=None):
    """Baseline, change, revert; return codes and what the gate said of the change."""
    export(make(), "model.onnx")
    shutil.copy("model.onnx", "kept.onnx")
    base, _ = run("scan", "model.onnx", "-o", "baseline.json", attacks=attacks)
    shutil.copy("baseline.json", "now.json")
    export(changed(), "model.onnx")
    code, said = run("scan", "model.onnx", "-o", "now.json", *GATE, attacks=attacks)
    shutil.copy("kept.onnx", "model.onnx")
    again, _ = run("scan", "model.onnx", "-o", "now.json", *GATE, attacks=attacks)
    return base, code, again, said


def test_learned_positions_fail_the_gate_and_fixed_ones_pass_it_again(run):
    base, code, again, said = played(run, story_nets.transformer, lambda: story_nets.transformer(True), ())
    assert (base, code, again) == (4, 1, 0)
    assert "gate failed: clip-reconstruction (closed-form) is new" in said
    # Nothing changed since the last scan: its results are taken again.
    before, begun = json.loads(Path("now.json").read_text(encoding="utf-8")), time.process_time()
    code, said = run("scan", "model.onnx", "-o", "now.json", "-o", "now.github.sarif", *GATE)
    assert time.process_time() - begun < 3.0
    assert code == 0
    assert json.loads(Path("now.json").read_text(encoding="utf-8")) == before
    assert Path("now.github.sarif").exists()
    # The same results are held against another gate, without a scan.
    code, said = run("scan", "model.onnx", "-o", "now.json", "--quiet")
    assert code == 4
    assert said.count("\n") == 1 or "nothing changed" in said


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
