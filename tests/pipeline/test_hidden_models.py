"""Audits of models that hide the clip from slopes: closed forms still read it; what stays hidden is never a PASS."""

import pytest
import torch
from short_scans import results_of, short

from auditor.model import load
from auditor.pipeline import ScanOptions
from auditor.pipeline.context import observe_probes, set_up
from auditor.probe import moving_texture
from auditor.records import FederatedProtocol

NETS = """
import torch
from torch import nn

class Hidden(nn.Module):
    input_shape, layout = (3, 4, 8, 8), "NCTHW"

    def __init__(self, how):
        super().__init__()
        torch.manual_seed(0)
        self.how, self.conv = how, nn.Conv3d(3, 4, 3, 2, 1)
        self.first = nn.Linear(3 * 4 * 64, 16)
        self.head = nn.Linear(128 if how in ("cut", "plain") else 16, 2)

    def forward(self, x):
        if self.how in ("cut", "plain"):
            with torch.set_grad_enabled(torch.is_grad_enabled() and self.how == "plain"):
                features = self.conv(x).tanh()
            return self.head(features.flatten(1))
        if self.how == "rounded":
            return self.head(torch.relu(self.first((torch.round(x * 255) / 255).flatten(1))))
        table = torch.linspace(0, 1, 16)[(x * 15).long()]  # no closed form reads it where its bias is not sent
        return self.head(torch.tanh(self.first(table.flatten(1)).square()))

def net(how): return Hidden(how)
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("hidden") / "nets.py"
    path.write_text(NETS)
    return f"{path}:net"


def scanned(source: str, how: str, **options):
    return results_of(ScanOptions(model=source, arg=(("how", how),), **options), short(attacks=(), probes=1), 0)


def test_a_rounded_clip_is_read_by_a_closed_form(source) -> None:
    results = scanned(source, "rounded")
    assert results["verdict"]["word"] == "FAIL"
    assert results["findings"][0]["attack"] == "linear-input"
    assert results["findings"][0]["grade"] == "EXACT"
    assert results["exposure"]["all"]["psnr"] > results["exposure"]["all"]["prior"] + 3.0


def test_an_audit_that_sees_nothing_of_the_clip_is_inconclusive(source) -> None:
    results = scanned(source, "table", trainable=("*.weight", "*weight"))
    assert (results["verdict"]["word"], results["verdict"]["exit_code"]) == ("INCONCLUSIVE", 4)
    assert "slope" in results["verdict"]["reasons"][0]
    assert results["confidence"]["level"] == "low"
    assert results["model"]["fidelity"]["blind"]
    assert "cannot see through" in results["exposure"]["reason"]


def test_a_backbone_under_no_grad_sends_what_a_frozen_one_does(source) -> None:
    updates = []
    for how, patterns in (("cut", ("conv.*", "head.*")), ("plain", ("head.*",))):
        target = load(source, arg=(("how", how),))
        context = set_up(target, FederatedProtocol(trainable=patterns, frozen=target.frozen), torch.device("cpu"), 0)
        (seen,) = observe_probes(context, (moving_texture(target.input, 1),))
        updates.append(seen.update.gradients)
    assert updates[0].keys() == updates[1].keys() == {"head.weight", "head.bias"}
    for name, value in updates[0].items():
        torch.testing.assert_close(value, updates[1][name])
