"""Options of what clients train and send, against the model they are given for."""

import dataclasses

import pytest
import torch

from auditor.errors import UsageError
from auditor.model import load
from auditor.pipeline import ScanOptions
from auditor.pipeline.context import view_of
from auditor.pipeline.controls import simulation_control
from auditor.pipeline.documents.wording import assumptions, out_of_scope
from auditor.pipeline.training import loss_of, observe_all, trained
from auditor.probe import canary
from auditor.records import LabelGuess

MODELS = """
import torch
from torch import nn

class Net(nn.Module):
    input_shape = (3, 4, 16, 16)

    def __init__(self, classes, drop=0.0, norm=nn.BatchNorm3d):
        super().__init__()
        self.conv, self.norm, self.drop = nn.Conv3d(3, 6, 3), norm(6), nn.Dropout(drop)
        self.head = nn.Linear(6, classes)

    def forward(self, x):
        if isinstance(self.norm, nn.BatchNorm1d):
            return self.head(self.drop(self.norm(self.conv(x).mean((2, 3, 4)))))
        return self.head(self.drop(self.norm(self.conv(x)).relu().mean((2, 3, 4))))

def net(): return Net(8)
def one(): return Net(1)
def dropping(): return Net(8, 0.5)
def plain(): return Net(8, 0.0, lambda width: nn.Identity())
def late(): return Net(8, 0.0, nn.BatchNorm1d)

def partly():
    made = Net(8)
    made.conv.requires_grad_(False)
    return made

def own(outputs, targets): return nn.functional.cross_entropy(outputs, targets)
def flat(outputs, targets): return outputs.argmax(1).float().mean()
number = 3
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("training") / "nets.py"
    path.write_text(MODELS)
    return path


def bench_for(path, name, **chosen):
    options = ScanOptions(model=f"{path}:{name}", **chosen)
    target = load(options.model)
    return trained(target, options, loss_of(options.loss, target))


def observed_for(path, name, **chosen):
    context = bench_for(path, name, **chosen)
    return context, observe_all(context, (canary(context.input, 0),))[0]


@pytest.mark.parametrize(
    ("name", "chosen", "message"),
    [
        ("one", {}, "--loss bce"),
        ("net", {"loss": "hinge"}, "--loss hinge is unknown"),
        ("net", {"loss": "none.py:f"}, "there is no file none.py"),
        ("net", {"loss": "OWN:missing"}, "defines no function 'missing'"),
        ("net", {"loss": "OWN:number"}, "defines no function 'number'"),
        ("net", {"loss": "OWN:flat"}, "cannot be differentiated twice"),
        ("plain", {"send_buffers": True, "bn": "train"}, "no BatchNorm"),
        ("net", {"dropout": "on"}, "no dropout that could be switched on"),
        ("late", {"bn": "train"}, "give --batch 2 or more, or --bn eval"),
    ],
)
def test_options_that_do_not_fit_are_refused_in_one_line(path, name, chosen, message):
    chosen = {k: v.replace("OWN", str(path)) if isinstance(v, str) else v for k, v in chosen.items()}
    with pytest.raises(UsageError, match=message) as caught:
        observed_for(path, name, **chosen)
    assert "\n" not in str(caught.value)


def test_what_a_factory_freezes_is_not_sent_unless_asked_for(path):
    assert "conv.weight" not in bench_for(path, "partly").protocol.sent
    assert "conv.weight" in bench_for(path, "partly", trainable=("*",)).protocol.sent
    assert bench_for(path, "partly", trainable=("conv",)).protocol.sent == ("conv.weight", "conv.bias")


def test_dropout_is_told_and_its_update_is_reproducible_only_by_its_own_client(path):
    off = bench_for(path, "dropping")
    assert any("leaves that off" in note for note in off.target.fidelity.notes)
    context, observed = observed_for(path, "dropping", dropout="on")
    assert any("2208.06163" in note for note in context.target.fidelity.notes)
    assert simulation_control(context, observed).passed
    attacker = context.client(observed.clips, context.client.targets(observed.labels))
    assert not torch.allclose(attacker["head.weight"], observed.update.gradients["head.weight"])


def test_buffers_are_named_among_what_is_sent(path):
    context, observed = observed_for(path, "net", bn="train", send_buffers=True)
    assert sorted(observed.update.buffers) == ["norm.running_mean", "norm.running_var"]
    assert any(said.startswith("the running statistics of BatchNorm") for said in assumptions(context))
    kept, without = observed_for(path, "net", bn="train")
    assert not without.update.buffers
    assert any("FedBN" in said for said in assumptions(kept))


@pytest.mark.parametrize(("name", "loss"), [("net", "bce"), ("one", "bce"), ("one", "mse"), ("net", "mse")])
def test_labels_are_restored_under_every_loss_of_one_clip(path, name, loss):
    _, observed = observed_for(path, name, loss=loss)
    assert isinstance(observed.guess, LabelGuess)
    assert observed.guess.certain
    if isinstance(observed.labels[0], float):
        assert observed.guess.labels[0] == pytest.approx(observed.labels[0], abs=1e-3)
    else:
        assert observed.guess.labels == observed.labels


def test_local_training_is_told_repeated_by_its_own_client_and_known_to_the_attacker(path):
    local = {"algorithm": "FedAvg", "local_epochs": 3, "local_batch": 2, "learning_rate": 0.1, "momentum": 0.9}
    context, observed = observed_for(path, "plain", batch=4, **local)
    assert observed.update.algorithm == "FedAvg"
    assert simulation_control(context, observed).passed
    # The attacker does not know the order of the clips.
    attacker = context.client(observed.clips, context.client.targets(observed.labels))
    assert not torch.allclose(attacker["head.weight"], observed.update.gradients["head.weight"], rtol=1e-3)
    knows = view_of(context, observed).knowledge
    assert (knows.local_epochs, knows.local_batch, knows.learning_rate, knows.momentum) == (3, 2, 0.1, 0.9)
    said = " ".join(assumptions(context))
    assert "6 local SGD steps on 4 clips (FedAvg)" in said
    assert "learning rate (0.1), momentum (0.9), epochs (3) and local batch (2 of 4)" in said
    assert "not the order of the clips" in said
    assert not any("(FedAvg)" in s for s in out_of_scope(context.protocol))
    assert any("(FedAvg)" in s for s in out_of_scope(bench_for(path, "plain").protocol))
    whole, _ = observed_for(path, "plain", batch=4, **{**local, "local_batch": 0})
    assert "order of the clips" not in " ".join(assumptions(whole))


def test_a_batch_under_a_loss_of_the_users_own(path):
    context, observed = observed_for(path, "net", loss=f"{path}:own", batch=3)
    plain = dataclasses.replace(context, client=context.client.under(context.protocol))
    assert len(observed.clips) == len(observed.labels) == 3
    assert simulation_control(plain, observed).passed
