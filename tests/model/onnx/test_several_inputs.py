"""Files with more inputs than a clip: states and masks are set, clips of one squeezed, else a wrapper is shown."""

import warnings
from pathlib import Path

import pytest
import torch
from refusals import fails
from torch import Tensor, nn

from auditor.errors import NotAuditable
from auditor.model import load


class Recurrent(nn.Module):
    """A GRU with its first state and a mask of frames as inputs."""

    def __init__(self, pads: bool) -> None:
        super().__init__()
        self.pads, self.gru, self.head = pads, nn.GRU(192, 6, batch_first=True), nn.Linear(6, 5)

    def forward(self, x: Tensor, state: Tensor, mask: Tensor) -> Tensor:
        y, _ = self.gru(x.flatten(2), state)
        seen = 1 - mask if self.pads else mask
        return self.head((y * seen[..., None]).mean(1))


class Crops(nn.Module):
    """An average over clips of the same video, each in an axis of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv3d(3, 4, 3, 2, 1), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        n = x.shape[0]
        x = self.conv(x.flatten(0, 1)).relu().mean((2, 3, 4))
        return self.head(x).reshape(n, -1, 5).mean(1)


def exported(net: nn.Module, inputs: tuple[Tensor, ...], names: list[str], path: Path, batch: bool = False) -> str:
    axes = {name: {1 if name.startswith("h") else 0: "n"} for name in names} if batch else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # this exporter is deprecated
        torch.onnx.export(net.eval(), inputs, path, dynamo=False, input_names=names, dynamic_axes=axes)
    return str(path)


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize(("state", "mask"), [("h0", "attention_mask"), ("hidden_state", "padding_mask")])
def test_states_and_masks_are_set(state, mask, batch, tmp_path) -> None:
    torch.manual_seed(0)
    net = Recurrent(pads="pad" in mask)
    inputs = torch.rand(1, 4, 3, 8, 8), torch.zeros(1, 1, 6), torch.ones(1, 4)
    target = load(exported(net, inputs, ["clip", state, mask], tmp_path / "m.onnx", batch))
    clips = torch.rand(2, 4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    expected = net(clips, torch.zeros(1, 2, 6), torch.zeros(2, 4) if net.pads else torch.ones(2, 4))
    torch.testing.assert_close(target.model(clips), expected)
    assert sum(p.numel() for p in target.parameters.values()) == sum(p.numel() for p in net.parameters())
    notes = " ".join(target.fidelity.notes)
    assert f"'{state}' is set to 0" in notes
    assert f"'{mask}' is set to {0 if net.pads else 1}" in notes


def test_a_second_clip_is_refused_with_a_wrapper(tmp_path) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(768 + 192, 5)

        def forward(self, fast: Tensor, slow: Tensor) -> Tensor:
            return self.head(torch.cat([fast.flatten(1), slow.flatten(1)], 1))

    path = exported(
        Two(), (torch.rand(1, 3, 4, 8, 8), torch.rand(1, 3, 1, 8, 8)), ["fast", "slow"], tmp_path / "m.onnx"
    )
    fails(NotAuditable, "fast (1, 3, 4, 8, 8), slow (1, 3, 1, 8, 8)", "def forward(self, x)", source=path)


@pytest.mark.parametrize("batch", [False, True])
def test_an_axis_of_one_clip_is_taken_away(batch, tmp_path) -> None:
    torch.manual_seed(0)
    net = Crops()
    target = load(exported(net, (torch.rand(1, 1, 3, 4, 8, 8),), ["x"], tmp_path / "m.onnx", batch))
    assert (target.input.layout, target.input.frames) == ("NCTHW", 4)
    clips = torch.rand(1, 4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(target.model(clips), net(clips.transpose(1, 2)[:, None]))


def test_several_clips_at_once_are_refused_with_a_wrapper(tmp_path) -> None:
    path = exported(Crops(), (torch.rand(1, 3, 3, 4, 8, 8),), ["x"], tmp_path / "m.onnx")
    text = fails(NotAuditable, "reads 3 clips", "def forward(self, x)", source=path)
    assert "--input-shape" not in text
