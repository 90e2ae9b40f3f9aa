"""Changed ONNX graphs: outputs and gradients are those of the network written by hand, or it is said why not."""

import pytest
import torch
from surgery_nets import convolutional
from torch import nn

from auditor.errors import UsageError
from auditor.model import load
from auditor.model.onnx.export import export_onnx
from auditor.records import Target

NETS = """
import sys
sys.path[:0] = {paths!r}
import torch
from test_surgery import built
from surgery_nets import convolutional

def _made(**arguments):
    net = built(convolutional, **arguments)
    net.input_shape = (3, 4, 8, 8)
    return net

def average():
    return _made()

def flat():
    return _made(pool="flatten")

def smooth():
    return _made(act=torch.nn.GELU)

def gated():
    return _made(act=torch.nn.SiLU)
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    from pathlib import Path

    folder = tmp_path_factory.mktemp("surgery")
    here = Path(__file__).parents[1]
    (folder / "nets.py").write_text(NETS.format(paths=[str(here)]))
    made: dict[str, str] = {}

    def exported(name: str) -> str:
        if name not in made:
            export_onnx(f"{folder / 'nets.py'}:{name}", folder / f"{name}.onnx", opset=20)
            made[name] = str(folder / f"{name}.onnx")
        return made[name]

    return exported


def by_hand(target: Target, **arguments: object) -> nn.Module:
    """The net written by hand with the weights of the changed graph, by name where it has them."""
    net = convolutional(**arguments).eval()  # type: ignore[arg-type]
    own, given = dict(net.named_parameters()), target.parameters
    assert {n: p.shape for n, p in own.items()} == {n: p.shape for n, p in given.items()}
    with torch.no_grad():
        for name, value in own.items():
            value.copy_(given[name])
        buffers = dict(target.model.named_buffers())
        for name, value in net.named_buffers():
            if name in buffers:
                value.copy_(buffers[name])
    return net


def agree(target: Target, net: nn.Module) -> None:
    clips = torch.rand(2, 4, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    labels = torch.tensor([0, 3])
    out = target.model(clips)
    hand = net(clips.transpose(1, 2))
    assert torch.allclose(out, hand, atol=1e-6)
    slopes = torch.autograd.grad(nn.functional.cross_entropy(out, labels), list(target.parameters.values()))
    wanted = torch.autograd.grad(nn.functional.cross_entropy(hand, labels), list(net.parameters()))
    for name, slope in zip(target.parameters, slopes, strict=True):
        other = dict(zip(dict(net.named_parameters()), wanted, strict=True))[name]
        assert torch.allclose(slope, other, atol=1e-6), name


CHANGES = [
    ("average", ("pooling", "flatten"), {"pool": "flatten"}),
    ("flat", ("pooling", "average"), {}),
    ("average", ("stride", "1"), {"stride": 1}),
    ("flat", ("stride", "1"), {"stride": 1, "pool": "flatten"}),
    ("average", ("activation", "gelu"), {"act": nn.GELU}),
    ("average", ("activation", "silu"), {"act": nn.SiLU}),
    ("average", ("activation", "leaky-relu"), {"act": nn.LeakyReLU}),
    ("average", ("norm", "none"), {"norm": "none"}),
    ("smooth", ("activation", "relu"), {}),
]


@pytest.mark.parametrize(("name", "change", "after"), CHANGES, ids=[f"{n} {c[0]}={c[1]}" for n, c, _ in CHANGES])
def test_a_changed_graph_is_the_net_written_by_hand(file, name, change, after):
    target = load(file(name), layout="NCTHW", change=change)
    assert target.name == name
    assert target.fidelity.notes[0].startswith(f"Changed by {change[0]}={change[1]}: ")
    # ONNX Runtime runs the changed file as well.
    assert target.fidelity.parity_max_error < 1e-5
    agree(target, by_hand(target, **after))


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("average", ("pooling", "average"), "it averages already"),
        ("flat", ("pooling", "flatten"), "it flattens already"),
        ("average", ("stride", "2"), "has that stride already"),
        ("average", ("stride", "1x1"), "has 3 axes"),
        ("average", ("norm", "group"), "can be left out only"),
        ("average", ("head", "mlp"), "an ONNX graph is changed by"),
        ("gated", ("activation", "relu"), "wrote an activation out"),
    ],
)
def test_what_does_not_apply_to_a_graph_says_why(file, name, change, says):
    with pytest.raises(UsageError, match=says):
        load(file(name), layout="NCTHW", change=change)
