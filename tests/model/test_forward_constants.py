"""Weights that no module owns, in lists, dicts, arrays and plain attributes: counted, whatever makes tensors of it."""

import pytest
import torch

from auditor.model import load
from auditor.score import unaccounted_for

NETS = """
import numpy as np
import torch
from torch import nn
from torch.nn import functional

WEIGHT = (np.random.RandomState(0).randn(8, 3, 3, 3, 3) * 0.1).astype("f4")
TENSOR = torch.from_numpy(WEIGHT.copy())
ASKING = [nn.Parameter(TENSOR.clone())]
ANGLES = torch.arange(128.0)[:, None] / torch.tensor([1.0, 10.0, 100.0, 1000.0])
MAKE = {
    "Tensor": lambda x: torch.Tensor(WEIGHT),
    "FloatTensor": lambda x: torch.FloatTensor(WEIGHT.tolist()),
    "new_tensor": lambda x: x.new_tensor(WEIGHT.tolist()),
    "from_numpy": lambda x: torch.from_numpy({"w": WEIGHT}["w"]),
    "as_tensor": lambda x: torch.as_tensor(WEIGHT.tolist()),
    "dlpack": lambda x: torch.from_dlpack(WEIGHT),
    "one by one": lambda x: torch.stack([torch.tensor(float(v)) for v in WEIGHT.reshape(-1)]).view(WEIGHT.shape),
    "bytes": lambda x: torch.from_numpy((WEIGHT * 1270).astype("i2")).float() / 1270,
    "every step": lambda x: sum(torch.tensor(WEIGHT) for _ in range(4)) / 4,
    "attribute": lambda x: TENSOR,
    "list": lambda x: ASKING[0],
    "sparse": lambda x: TENSOR.flatten(1).to_sparse().to_dense().view(TENSOR.shape),
}
FIXED = {
    "colours": lambda x, f: f,
    "positions": lambda x, f: f + torch.cat([ANGLES.sin(), ANGLES.cos()], -1),
    "flags": lambda x, f: f * torch.tensor([1.0, 0.0] * 64)[:, None],
    "few numbers": lambda x, f: f * 0.3 + torch.tensor(0.7),
    "whole numbers": lambda x, f: f + sum(k * f for k in torch.arange(30.0).tolist()),
    "made": lambda x, f: f + torch.linspace(0, 1, 8),
    "adjacency": lambda x, f: torch.stack([torch.sparse.mm(torch.eye(128).to_sparse(), g) for g in f]),
    "indices": lambda x, f: f + f[:, torch.tensor(np.random.RandomState(0).permutation(128))],
    "not of the clip": lambda x, f: f if torch.tensor(WEIGHT).sum() < 99 else f + 1,
}

class Net(nn.Module):
    input_shape, layout = (3, 4, 16, 16), "NCTHW"

    def __init__(self, form, numpy=False):
        super().__init__()
        torch.manual_seed(0)
        self.form, self.numpy = form, numpy
        self.conv, self.head = nn.Conv3d(3, 8, 3, 2, 1), nn.Linear(8, 5)

    def forward(self, x):
        if self.numpy:
            x = torch.Tensor(x.detach().numpy() * 2 - 1)
        if self.form == "colours":
            x = (x - torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1, 1)) / x.new_tensor([0.2, 0.3, 0.2]).view(3, 1, 1, 1)
        if self.form in MAKE:
            x = functional.conv3d(x, MAKE[self.form](x), stride=2, padding=1)
            return self.head(x.relu().mean((2, 3, 4)))
        if self.form == "Python numbers":
            x = torch.stack([sum(w * x[:, i % 3] for i, w in enumerate(WEIGHT[0].reshape(-1).tolist()))] * 3, 1)
        f = self.conv(x).flatten(2).transpose(1, 2)
        return self.head(FIXED.get(self.form, lambda x, f: f)(x, f).relu().mean(1))

def net(form, numpy=False): return Net(form, numpy)
"""
OWN = 8 * 81 + 8 + 45


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("constants") / "nets.py"
    path.write_text(NETS)
    return f"{path}:net"


HIDDEN = ("Tensor", "FloatTensor", "new_tensor", "from_numpy", "as_tensor", "dlpack", "one by one", "bytes")


@pytest.mark.parametrize("form", [*HIDDEN, "every step", "attribute", "list", "sparse"])
def test_weights_that_no_module_owns_are_not_accounted_for(form, source) -> None:
    fidelity = load(source, arg=(("form", form),)).fidelity
    counted = fidelity.unaccounted
    assert (counted.numbers, counted.fixed, counted.of_numbers) == (648, 0, 648 + OWN)
    assert any("648 of the model's" in reason for reason in unaccounted_for(fidelity))
    (note,) = (note for note in fidelity.notes if "neither parameters nor buffers" in note)
    assert ("plain Python list do" in note) is (form == "list")


def test_a_weight_that_never_meets_the_clip_is_none(source) -> None:
    assert load(source, arg=(("form", "not of the clip"),)).fidelity.unaccounted.numbers == 0


def test_weights_that_are_python_numbers_are_counted(source) -> None:
    counted = load(source, arg=(("form", "Python numbers"),)).fidelity.unaccounted
    assert (counted.numbers, counted.fixed) == (81, 0)


@pytest.mark.parametrize(
    "form",
    [
        "colours",
        "positions",
        "flags",
        "few numbers",
        "whole numbers",
        "made",
        "adjacency",
        "indices",
        "not of the clip",
        "plain",
    ],
)
def test_constants_that_nobody_trains_hide_nothing(form, source) -> None:
    fidelity = load(source, arg=(("form", form),)).fidelity
    assert fidelity.unaccounted.share == 0
    assert not unaccounted_for(fidelity)
    assert not any("neither parameters" in note for note in fidelity.notes)


@pytest.mark.parametrize("form", ["plain", "from_numpy", "Tensor"])
def test_a_clip_that_goes_through_numpy_is_no_constant_and_weights_behind_it_are(form, source) -> None:
    fidelity = load(source, arg=(("form", form), ("numpy", True))).fidelity
    assert fidelity.unaccounted.numbers == (0 if form == "plain" else 648)
    assert not fidelity.blind


@pytest.mark.filterwarnings("ignore:.*torch.jit.*")
def test_archives_bring_such_weights_along(source, tmp_path) -> None:
    namespace: dict = {}
    exec(NETS, namespace)
    torch.jit.trace(namespace["net"]("attribute").eval(), torch.rand(1, 3, 4, 16, 16)).save(tmp_path / "m.pt")
    target = load(str(tmp_path / "m.pt"), trust_model=True, input_shape=(3, 4, 16, 16))
    assert (
        target.fidelity.unaccounted.numbers == 648 + 656
    )  # the convolution, which this form of the network passes over
