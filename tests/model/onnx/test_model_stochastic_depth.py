"""Branches that training drops at random are kept, as the original module keeps them when it evaluates."""

from pathlib import Path

import onnx
import pytest
import torch
import witness
from onnx import numpy_helper
from torch import Tensor, nn
from zoo import CLASSES, SHAPE, export, randomised

from auditor.errors import NotAuditable
from auditor.model import load


class Residual(nn.Module):
    """Two residual branches under stochastic depth, one of which drops rows and one whole batches."""

    def __init__(self) -> None:
        from torchvision.ops import StochasticDepth

        super().__init__()
        self.stem = nn.Conv3d(3, 4, 3, stride=2, padding=1)
        self.left, self.right = nn.Conv3d(4, 4, 3, padding=1), nn.Conv3d(4, 4, 1)
        self.row, self.batch = StochasticDepth(0.4, "row"), StochasticDepth(0.6, "batch")
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        x = x + self.row(self.left(x))
        x = x + self.batch(self.right(x))
        return self.head(x.mean((2, 3, 4)))


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[nn.Module, Path]:
    net = randomised(Residual())
    return net, export(net, tmp_path_factory.mktemp("depth") / "m.onnx", "legacy-training", opset=17)


def test_branches_are_kept(made) -> None:
    net, path = made
    assert sum(node.op_type == "RandomUniformLike" for node in onnx.load(path).graph.node) == 2
    target = load(str(path))
    x = torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(3))
    clips = x.transpose(1, 2).contiguous()
    assert witness.relative(target.model(clips), net(x)) < 1e-4
    theirs, ours = witness.gradients(net, x), witness.gradients(target.model, clips)
    assert target.parameters.keys() == theirs.keys()
    for name, wanted in theirs.items():
        assert witness.relative(ours[name], wanted) < 1e-3, name
    assert target.fidelity.parity_max_error is not None
    assert target.fidelity.parity_max_error < 1e-4
    assert any("Stochastic depth is off: 2 branches" in note for note in target.fidelity.notes)
    assert "RandomUniformLike" not in target.operators


def test_another_share_is_not_stochastic_depth(made, tmp_path) -> None:
    model = onnx.load(made[1])
    divided = next(node for node in model.graph.node if node.op_type == "Div")
    constant = next(node for node in model.graph.node if node.output[:1] == divided.input[1:])
    constant.attribute[0].t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(constant.attribute[0].t) / 2))
    path = tmp_path / "m.onnx"
    onnx.save(model, path)
    with pytest.raises(NotAuditable, match="RandomUniformLike x1"):
        load(str(path))
