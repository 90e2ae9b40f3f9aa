"""Networks whose forward takes the clip out as numbers and makes tensors of them again."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import auditor
from auditor.model.checks.cuts import seen_through
from auditor.model.video import VideoModel
from auditor.records import InputSpec

SPEC = InputSpec(frames=4, channels=3, height=8, width=8, layout="NTCHW")
MEAN = np.array([0.4, 0.5, 0.6], "f4").reshape(1, 1, 3, 1, 1)


def _numpy(x: Tensor) -> np.ndarray:
    return x.detach().cpu().numpy()


LINES = {
    "as it is": lambda x: torch.from_numpy(_numpy(x).copy()).to(x.device),
    "normalised": lambda x: torch.as_tensor(_numpy(x) * 2 - 1),
    "each colour": lambda x: torch.from_numpy((_numpy(x) - MEAN) / np.float32(0.2)),
    "list": lambda x: torch.tensor(x.tolist()),
    "clip by clip": lambda x: torch.stack([torch.from_numpy(clip.detach().numpy()) for clip in x]),
    "rows": lambda x: torch.from_numpy(_numpy(x).reshape(len(x), -1)).view(x.shape),
}
OTHERS = {
    "bent": lambda x: torch.from_numpy(np.tanh(_numpy(x))),
    "turned": lambda x: torch.from_numpy(np.flip(_numpy(x), -1).copy()),
    "bytes": lambda x: torch.from_numpy((_numpy(x) * 255).astype("u1")).float() / 255,
}


class Net(nn.Module):
    """A function of the clip, and a convolution or a Linear layer on it."""

    def __init__(self, first, *, linear: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.input_shape, self.layout = first, (4, 3, 8, 8), "NTCHW"
        self.conv = nn.Identity() if linear else nn.Sequential(nn.Conv3d(4, 4, 3, 1, 1), nn.Tanh())
        self.head = nn.Linear(768, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(self.first(x)).flatten(1))


def _slope(model, clip: Tensor) -> Tensor:
    clip = clip.clone().requires_grad_()
    return torch.autograd.grad(model(clip).square().sum(), clip)[0]


@pytest.mark.parametrize("name", LINES)
def test_what_comes_back_in_proportion_has_the_slope_of_its_differences(name) -> None:
    model = VideoModel(Net(LINES[name]).eval(), SPEC)
    random = torch.Generator().manual_seed(1)
    found = seen_through(model, torch.rand(1, 4, 3, 8, 8, generator=random))
    assert found.model.sees_through
    assert found.frozen == found.blind == ()
    grey, way = torch.full((1, 4, 3, 8, 8), 0.5), torch.randn(1, 4, 3, 8, 8, generator=random)
    for clip in (torch.rand(1, 4, 3, 8, 8, generator=random), grey):  # a clip of one colour tells no scale
        with torch.no_grad():
            ahead, behind = (float(model(clip + step * way).square().sum()) for step in (1e-2, -1e-2))
        assert float((_slope(found.model, clip) * way).sum()) == pytest.approx((ahead - behind) / 2e-2, rel=2e-2)


@pytest.mark.parametrize("name", OTHERS)
def test_anything_else_has_no_slope_and_is_not_opened(name) -> None:
    model = VideoModel(Net(OTHERS[name]).eval(), SPEC)
    clip = torch.rand(1, 4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    assert seen_through(model, clip).model is model
    assert model.leaves_torch


def test_clients_send_the_same_gradients_as_without_detours() -> None:
    plain, detour = (VideoModel(Net(way).eval(), SPEC) for way in (lambda x: x, LINES["as it is"]))
    clip = torch.rand(2, 4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    sent = []
    for model in (plain, seen_through(detour, clip[:1]).model):
        loss = nn.functional.cross_entropy(model(clip), torch.tensor([1, 2]))
        sent.append(torch.autograd.grad(loss, [value for _, value in model.named_parameters()]))
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*sent, strict=True))


@pytest.mark.parametrize("name", [*LINES, "turned"])
def test_the_first_layer_gives_the_clip_away_whatever_the_detour(name, tmp_path) -> None:
    source = tmp_path / "net.py"
    source.write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(__file__.rpartition('/')[0])!r})\n"
        "from test_numpy_detours import LINES, OTHERS, Net\n"
        f"def net(): return Net({{**LINES, **OTHERS}}[{name!r}], linear=True)\n"
    )
    found = auditor.attack(f"{source}:net", attack="linear-input")
    assert found.score is not None
    assert found.score.psnr > 60


def test_torch_is_as_it_was_behind_a_forward_pass() -> None:
    before = torch.from_numpy, torch.tensor
    model = VideoModel(Net(LINES["as it is"]).eval(), SPEC)
    model(torch.rand(1, 4, 3, 8, 8))
    assert (torch.from_numpy, torch.tensor) == before
    assert "numpy" not in vars(torch.Tensor)
