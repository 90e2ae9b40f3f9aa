"""The recorders of `examples/` in the real frameworks: what they write is what travels, and the audit simulates it."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from own_environment import ROOT, own_environment
from typer.testing import CliRunner

from auditor.cli.main import app
from auditor.probe import shipped_probes
from auditor.records import InputSpec

NETS = """
import torch
from torch import nn

def conv():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv3d(3, 8, 3, padding=1, stride=(1, 2, 2)), nn.BatchNorm3d(8), nn.GELU(), nn.Flatten(),
        nn.Linear(8 * 4 * 4 * 4, 6)
    )
"""
CHOICES = ("nets.py:conv", "--input-shape", "3,4,8,8", "--layout", "NCTHW", "--device", "cpu")
FEDAVG = ("--algorithm", "fedavg", "--local-epochs", "3", "--learning-rate", "0.05")
TRAIN = """
import numpy as np, torch
from nets import conv

def trained(state):
    net = conv()
    net.load_state_dict(state)
    net.eval()
    clip = torch.from_numpy(np.load("clip.npz")["clip"]).permute(1, 0, 2, 3)[None]
    optimiser = torch.optim.SGD(net.parameters(), lr=0.05)
    for _ in range(3):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(net(clip), torch.tensor([2])).backward()
        optimiser.step()
    return net
"""
FLOWER = """
from flwr.app import ArrayRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.mod import LocalDpMod
from flwr.supercore.task_identity import TaskIdentity
from nets import conv
from record_flower import Recorder
from training import trained

# As the process that runs an app is told by its node.
TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
defence = LocalDpMod(clipping_norm=0.01, sensitivity=1e-5, epsilon=10.0, delta=1e-5)
for mods in ([Recorder("plain")], [Recorder("outside"), defence], [defence, Recorder("inside")]):
    app = ClientApp(mods=mods)

    @app.train()
    def train(message, context):
        net = trained(message.content["arrays"].to_torch_state_dict())
        return Message(content=RecordDict({"arrays": ArrayRecord(net.state_dict())}), reply_to=message)

    content = RecordDict({"arrays": ArrayRecord(conv().state_dict())})
    context = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config={})
    assert app(Message(content, 1, "train"), context).has_content()
"""
NVFLARE = """
from nvflare.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from nvflare.apis.fl_context import FLContext
from nets import conv
from record_nvflare import Recorder
from training import trained

before = conv().state_dict()
after = trained(before).state_dict()
arrays = {name: (after[name] - before[name]).numpy() for name in before if not name.endswith("tracked")}
whole = {name: value.numpy() for name, value in after.items()}
for folder, kind, data in (("difference", DataKind.WEIGHT_DIFF, arrays), ("weights", DataKind.WEIGHTS, whole)):
    dxo = DXO(kind, data=data, meta={MetaKey.NUM_STEPS_CURRENT_ROUND: 3})
    sent = Recorder(folder).process(dxo.to_shareable(), FLContext())
    assert from_shareable(sent).data.keys() == data.keys()
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with the network, its training and one clip."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(NETS)
    (tmp_path / "training.py").write_text(TRAIN)
    spec = InputSpec(frames=4, channels=3, height=8, width=8, layout="NCTHW")
    clip = next(p for p in shipped_probes(spec) if p.name == "hand_box").clip
    np.savez(tmp_path / "clip.npz", clip=clip.numpy())
    return tmp_path


def replayed(*files: str) -> dict:
    ran = CliRunner().invoke(app, ["replay", *CHOICES, *FEDAVG, *files, "--clip", "clip.npz", "--label", "2", "--json"])
    assert ran.exit_code in (0, 1), ran.output
    return json.loads(ran.stdout)


@pytest.mark.slow
@pytest.mark.timeout(2400)  # a busy machine installs the packages in twenty minutes
def test_a_real_flower_client_sends_what_the_audit_simulates(here):
    own_environment(here, ("flwr",)).run(here, FLOWER)
    for folder in ("plain", "inside"):
        found = replayed("--before", f"{folder}/before-1.npz", "--after", f"{folder}/after-1.npz")
        assert found["agrees"]
        assert found["difference"] < 1e-4
    # Only a recorder before the defence sees what travels: clipped to 0.01.
    found = replayed("--before", "outside/before-1.npz", "--after", "outside/after-1.npz")
    assert not found["agrees"]
    assert found["explanations"][0]["cause"] in ("clipping", "noise")
    assert found["update"]["norm"] == pytest.approx(0.01, rel=0.05)


@pytest.mark.slow
@pytest.mark.timeout(2400)  # a busy machine installs the packages in twenty minutes
def test_a_real_nvflare_filter_records_what_the_audit_simulates(here):
    own_environment(here, ("nvflare", "safetensors")).run(here, NVFLARE)
    for folder, kind in (("difference", "difference"), ("weights", "weights")):
        found = replayed("--update", f"{folder}/sent-1.safetensors")
        assert found["agrees"]
        assert found["difference"] < 1e-4
        assert (found["update"]["kind"], found["update"]["steps"]) == (kind, 3)
    ran = CliRunner().invoke(
        app, ["replay", *CHOICES, "--algorithm", "fedavg", "--update", "weights/sent-1.safetensors", "--label", "2"]
    )
    assert "its client took 3 local steps, and the options describe 5" in str(ran.exception)


def test_the_plain_recorder_writes_what_the_audit_simulates(here):
    path = os.pathsep.join([str(here), str(ROOT / "examples")])
    program = "from training import trained; from nets import conv; from record_pytorch import recorded\n"
    program += (
        "net = conv()\nwith recorded(net, 'recorded'):\n    net.load_state_dict(trained(net.state_dict()).state_dict())"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-2000:]
    found = replayed("--before", "recorded/before-1.pt", "--after", "recorded/after-1.pt")
    assert found["agrees"]
    assert found["difference"] < 1e-5
