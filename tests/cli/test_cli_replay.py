"""`fl-audit replay`: updates of a plain PyTorch client, with and without a planted difference."""

import copy
import functools
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from conformity import conforms
from torch import nn

from auditor.pipeline.captured.noise import unlike_noise
from auditor.probe import shipped_probes
from auditor.records import InputSpec

NETS = """
import torch
from torch import nn

def conv():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv3d(3, 8, 3, padding=1, stride=(1, 2, 2)), nn.BatchNorm3d(8), nn.GELU(), nn.Flatten(),
        nn.Linear(8 * 4 * 4 * 4, 6)
    )
    net[1].running_var.uniform_(0.5, 2.0)
    net[1].running_mean.normal_(0.0, 0.1)
    return net
"""
CHOICES = ("nets.py:conv", "--input-shape", "3,4,8,8", "--layout", "NCTHW", "--device", "cpu")
LABEL, STEPS, RATE = 2, 3, 0.05
FEDAVG = ("--algorithm", "fedavg", "--local-epochs", str(STEPS), "--learning-rate", str(RATE))


@pytest.fixture
def run(run, tmp_path):
    """Run `fl-audit replay ARGS` in this process, beside nets.py; return code, stdout, stderr."""
    (tmp_path / "nets.py").write_text(NETS)
    return functools.partial(run, "replay")


def network() -> nn.Module:
    scope: dict = {}
    exec(NETS, scope)
    return scope["conv"]()


def the_clip() -> torch.Tensor:
    """A shipped clip as the network reads it: (clip, channel, frame, height, width)."""
    spec = InputSpec(frames=4, channels=3, height=8, width=8, layout="NCTHW")
    return next(p for p in shipped_probes(spec) if p.name == "hand_box").clip.transpose(0, 1)[None]


def a_client(
    rate: float = RATE,
    decay: float = 0.0,
    momentum: float = 0.0,
    steps: int = STEPS,
    mode: str = "eval",
    autocast: bool = False,
    flip: bool = False,
    label: int = LABEL,
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Train as programs do, by torch.optim and nothing of fl-audit; return the state before and after."""
    net, clip = network(), the_clip()
    before = copy.deepcopy(net.state_dict())
    net.train(mode == "train")
    optimiser = torch.optim.SGD(net.parameters(), lr=rate, momentum=momentum, weight_decay=decay)
    for _ in range(steps):
        optimiser.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            loss = nn.functional.cross_entropy(net(clip.flip(-1) if flip else clip), torch.tensor([label]))
        loss.backward()
        optimiser.step()
    return before, net.state_dict()


def moved(before, after, change=lambda g: g) -> dict[str, np.ndarray]:
    """Return what a client sends whose defence changes the difference of weights, by name."""
    names = [name for name, _ in network().named_parameters()]
    difference = change({name: after[name] - before[name] for name in names})
    return {name: (before[name] + d).detach().numpy() for name, d in difference.items()}


def clipped(g):
    """Clip the whole to a norm of 0.02, about a fifth of it."""
    size = torch.sqrt(sum(v.square().sum() for v in g.values()))
    assert size > 0.04
    return {name: v * (0.02 / size) for name, v in g.items()}


def noised(g):
    generator = torch.Generator().manual_seed(3)
    return {name: v + 1e-3 * torch.randn(v.shape, generator=generator) for name, v in g.items()}


PLANTED = {
    "learning-rate": ({"rate": 0.02}, None, r"learning rate is 0\.02(00)?, not 0.05"),
    "weight-decay": ({"decay": 0.01}, None, r"decays weights by 0\.0(1|099|100)"),
    "momentum": ({"momentum": 0.9}, None, r"momentum is 0\.9(00)?, not 0"),
    "local-steps": ({"steps": 2}, None, "took 2 local steps, not 3"),
    "batchnorm-mode": ({"mode": "train"}, None, "BatchNorm is in train mode"),
    "bfloat16": ({"autocast": True}, None, "computes in bfloat16"),
    "clipping": ({}, clipped, r"clipped to a norm of 0\.02"),
    "noise": ({}, noised, r"noise of deviation 0\.00(1|09\d+|10\d+) an entry was added$"),
    "augmentation": ({"flip": True}, None, "the client's clip is mirrored$"),
    "not-sent": ({}, lambda g: {n: v for n, v in g.items() if n != "0.weight"}, "0.weight was not sent"),
}


@pytest.mark.parametrize("cause", PLANTED)
def test_a_planted_difference_is_named_first(run, cause):
    how, change, text = PLANTED[cause]
    np.savez("sent.npz", **moved(*a_client(**how), change or (lambda g: g)))
    code, out, err = run(*CHOICES, *FEDAVG, "--after", "sent.npz", "--clip", "hand_box", "--label", LABEL, "--json")
    assert code == 1, err
    found = json.loads(out, parse_constant=pytest.fail)
    assert not found["agrees"]
    first = found["explanations"][0]
    assert (first["cause"], bool(re.search(text, first["text"]))) == (cause, True), found["explanations"][:3]
    assert found["explained"]
    assert first["remaining"] < 0.2 * found["difference"]


def test_a_tiny_weight_decay_is_fitted_all_the_same(run):
    np.savez("sent.npz", **moved(*a_client(decay=2e-4)))
    code, out, err = run(*CHOICES, *FEDAVG, "--after", "sent.npz", "--clip", "hand_box", "--label", LABEL, "--json")
    assert code == 1, err
    first = json.loads(out)["explanations"][0]
    assert (first["cause"], first["value"]) == ("weight-decay", pytest.approx(2e-4, rel=0.01))


def test_a_factor_near_zero_explains_nothing(run):
    """Of an update that is far from the simulated one, one of zeros leaves less than half of the difference."""
    turned = moved(*a_client(), lambda g: {n: 0.05 * v.flatten().flip(0).view_as(v) for n, v in g.items()})
    np.savez("sent.npz", **turned)
    code, out, err = run(*CHOICES, *FEDAVG, "--after", "sent.npz", "--clip", "hand_box", "--label", LABEL, "--json")
    assert code == 1, err
    found = json.loads(out)
    assert found["explanations"][0]["remaining"] < 0.5 * found["difference"]
    assert not found["explained"]


def test_a_plain_loop_agrees_and_that_is_said(run, tmp_path):
    before, after = a_client()
    np.savez("sent.npz", *(value.numpy() for value in after.values()))
    choices = (*CHOICES, *FEDAVG, "--update", "sent.npz", "--clip", "hand_box")
    code, out, err = run(*choices, "--json")
    assert code == 0, err
    found = json.loads(out, parse_constant=pytest.fail)
    conforms(found, "replay")
    assert found["agrees"]
    assert found["difference"] < 1e-5
    assert found["explanations"] == []
    assert (found["clip"]["label"], found["update"]["kind"]) == (LABEL, "weights")
    # Independent witness of the norms that are told.
    for tensor in found["tensors"]:
        sent = float((before[tensor["name"]] - after[tensor["name"]]).norm())
        assert tensor["sent"] == pytest.approx(sent, rel=1e-4)
    code, out, err = run(*choices)
    assert code == 0, err
    assert "an audit with these options tests what this client sends" in out


def test_a_gradient_agrees_and_another_clip_is_not_explained(run):
    net = network().eval()
    nn.functional.cross_entropy(net(the_clip()), torch.tensor([LABEL])).backward()
    torch.save({name: p.grad for name, p in net.named_parameters()}, "gradient.pt")
    choices = (*CHOICES, "--update", "gradient.pt", "--label", LABEL)
    code, out, err = run(*choices, "--clip", "hand_box")
    assert code == 0, err
    code, out, err = run(*choices, "--clip", "park_walker")
    assert code == 1, err
    assert "is this the clip, and its label?" in out
    code, out, err = run(*CHOICES, "--update", "gradient.pt", "--label", "4", "--clip", "hand_box", "--json")
    assert code == 1, err
    first = json.loads(out)["explanations"][0]
    assert (first["cause"], first["text"]) == ("label", "the client trained the clip as 2, not 4")


def test_noise_is_told_from_what_gradients_differ_by():
    generator = torch.Generator().manual_seed(0)
    shapes = {"a": (16, 27), "b": (16,), "c": (10, 400)}
    noise = {name: 0.1 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    exponential = {name: -torch.rand(shape, generator=generator).log() for name, shape in shapes.items()}
    laplace = {name: v * torch.randn(v.shape, generator=generator).sign() for name, v in exponential.items()}
    outer = {"c": torch.outer(torch.randn(10, generator=generator), torch.randn(400, generator=generator))}
    sizes = {**noise, "a": 3 * noise["a"]}
    assert unlike_noise(noise) < 0.06
    assert unlike_noise(laplace) < 0.06
    assert min(unlike_noise(outer), unlike_noise(sizes), unlike_noise({"a": torch.zeros(9)})) > 0.25


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ((), "no update was given; give --update FILE"),
        (("--update", "sent.npz", "--batch", "2"), "a replay knows one clip"),
        (("--update", "sent.npz", "--clip", "nothing"), "there is no clip nothing"),
        (("--update", "sent.npz", "--defence", "clip:1"), "--defence is simulated by no replay"),
        (("--update", "sent.npz", "--label", "x"), "--label x is no class of this model"),
        (("--update", "other.npz"), "they do not fit in order"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(run, args, says):
    np.savez("sent.npz", **moved(*a_client()))
    np.savez("other.npz", a=np.zeros(3))
    code, _, err = run(*CHOICES, *FEDAVG, *args)
    assert code == 2
    assert says in err
    assert ";" in err


def test_every_cause_is_told_in_the_documentation():
    page = (Path(__file__).parents[2] / "docs" / "captured.md").read_text(encoding="utf-8")
    assert not [cause for cause in (*PLANTED, "label", "float16") if f"`{cause}`" not in page]
