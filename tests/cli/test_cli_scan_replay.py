"""`fl-audit scan --replay`: what a replay found enters confidence, results and report."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conformity import conforms
from short_scans import scanning, short
from torch import nn

from auditor.probe import shipped_probes
from auditor.records import InputSpec

NETS = """
import torch
from torch import nn

def net(seed=0):
    torch.manual_seed(int(seed))
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 8 * 8, 6))
"""
CHOICES = ("nets.py:net", "--input-shape", "3,4,8,8", "--layout", "NCTHW", "--device", "cpu")


@pytest.fixture
def run(run, tmp_path):
    """Run `fl-audit ARGS` in this process, beside nets.py; return code, stdout, stderr."""
    (tmp_path / "nets.py").write_text(NETS)
    return run


def replayed(run, tmp_path: Path, factor: float = 1.0) -> Path:
    """Write what a replay says of a plain PyTorch client whose gradient is so many times as large."""
    scope: dict = {}
    exec(NETS, scope)
    net = scope["net"]()
    spec = InputSpec(frames=4, channels=3, height=8, width=8, layout="NCTHW")
    clip = next(p for p in shipped_probes(spec) if p.name == "hand_box").clip.transpose(0, 1)[None]
    nn.functional.cross_entropy(net(clip), torch.tensor([2])).backward()
    np.savez("sent.npz", **{name: factor * p.grad.numpy() for name, p in net.named_parameters()})
    code, out, err = run("replay", *CHOICES, "--update", "sent.npz", "--clip", "hand_box", "--label", 2, "--json")
    assert code == (0 if factor == 1.0 else 1), err
    path = tmp_path / "replay.json"
    path.write_text(out)
    return path


@pytest.mark.parametrize("factor", [1.0, 0.5])
def test_a_replay_enters_confidence_results_and_report(run, tmp_path, factor):
    path = replayed(run, tmp_path, factor)
    with scanning(short(attacks=()), enhanced=0):
        _code, _out, _err = run(
            "scan", *CHOICES, "--replay", path, "-o", "r.json", "-o", "r.html", "-o", "r.md", "--no-reuse"
        )
    results = json.loads(Path("r.json").read_text())
    conforms(results, "audit")
    found, sure = results["replay"], results["confidence"]
    assert found["agrees"] is (factor == 1.0)
    assert found["clip"] == "hand_box"
    assert any(found["sentence"].rstrip(".") == reason for reason in sure["reasons"])
    page, text = Path("r.html").read_text(), Path("r.md").read_text()
    assert found["sentence"] in text
    if factor == 1.0:
        assert found["cause"] == ""
        assert "A replay agrees." in page
        return
    assert sure["level"] == "low"
    assert (found["cause"], found["explained"]) == ("learning-rate", True)
    assert "learning-rate" in found["sentence"]
    assert "A replay differs." in page


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (("--arg", "seed=1"), "is of another model"),
        (("--loss", "bce"), "has loss cross-entropy, and this audit bce"),
        (("--algorithm", "fedavg"), "has algorithm FedSGD, and this audit FedAvg"),
    ],
)
def test_a_replay_of_something_else_is_refused(run, tmp_path, given, says):
    path = replayed(run, tmp_path)
    code, _out, err = run("scan", *CHOICES, *given, "--replay", path)
    assert code == 2, err
    assert says in " ".join(err.split())


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "there is no replay.json"),
        ("", "is not JSON"),
        ("[1]", "is no replay"),
        ('{"schema": "fl-audit/replay/1"}', "replay"),
    ],
)
def test_what_is_no_replay_is_refused_before_a_model_is_loaded(run, tmp_path, content, says):
    if content is not None:
        Path("replay.json").write_text(content)
    code, _out, err = run("scan", *CHOICES, "--replay", "replay.json")
    assert code == 2, err
    assert says in " ".join(err.split())
    assert sum(line.startswith("fl-audit:") for line in err.splitlines()) == 1
