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


class Averaged(nn.Module):
    """A classifier behind axes that hold one entry each; `places` says where."""

    def __init__(self, places: tuple[int, ...]) -> None:
        super().__init__()
        self.places, self.conv, self.head = places, nn.Conv3d(3, 4, 3, 2, 1), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        for place in reversed(self.places):
            x = x.select(place, 0)
        return self.head(self.conv(x).relu().mean((2, 3, 4)))


@pytest.mark.parametrize("places", [(5,), (1, 2), (1, 6)])
def test_axes_of_one_entry_are_taken_away_wherever_they_stand(places, tmp_path) -> None:
    torch.manual_seed(0)
    net, clip = Averaged(places), torch.rand(1, 3, 4, 8, 8)
    shaped = clip
    for place in places:
        shaped = shaped.unsqueeze(place)
    target = load(exported(net, (shaped,), ["x"], tmp_path / "m.onnx"))
    assert (target.input.layout, target.input.frames) == ("NCTHW", 4)
    torch.testing.assert_close(target.model(clip.transpose(1, 2)), net(shaped))


def test_an_open_axis_of_clips_counts_as_one(tmp_path) -> None:
    torch.manual_seed(0)
    path = tmp_path / "m.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # this exporter is deprecated
        axes = {"x": {0: "n", 1: "clips"}}
        torch.onnx.export(
            Crops().eval(), (torch.rand(1, 1, 3, 4, 8, 8),), path, dynamo=False, input_names=["x"], dynamic_axes=axes
        )
    assert load(str(path)).input.frames == 4


@pytest.mark.parametrize(("state", "mask"), [("h_prev", "valid"), ("memory", "masks"), ("last_h", "mask_in")])
def test_other_names_of_states_and_masks(state, mask, tmp_path) -> None:
    inputs = torch.rand(1, 4, 3, 8, 8), torch.zeros(1, 1, 6), torch.ones(1, 4)
    target = load(exported(Recurrent(pads=False), inputs, ["clip", state, mask], tmp_path / "m.onnx"))
    notes = " ".join(target.fidelity.notes)
    assert f"'{state}' is set to 0" in notes
    assert f"'{mask}' is set to 1" in notes


def test_a_mask_may_follow_an_open_number_of_frames(tmp_path) -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(192, 5)

        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            return (self.head(x.flatten(2)) * mask[..., None]).sum(1)

    path = tmp_path / "m.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # this exporter is deprecated
        axes = {name: {0: "n", 1: "t"} for name in ("clip", "mask")}
        inputs = torch.rand(1, 4, 3, 8, 8), torch.ones(1, 4)
        torch.onnx.export(Masked().eval(), inputs, path, dynamo=False, input_names=["clip", "mask"], dynamic_axes=axes)
    assert load(str(path), input_shape=(6, 3, 8, 8)).input.frames == 6


def test_an_input_that_is_no_clip_is_given_its_value(tmp_path) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(768, 5)

        def forward(self, x: Tensor, factor: Tensor) -> Tensor:
            return self.head(x.flatten(1)) * factor

    path = exported(Scaled(), (torch.rand(1, 3, 4, 8, 8), torch.ones(1)), ["x", "factor"], tmp_path / "m.onnx")
    fails(NotAuditable, "self.net(x, torch.ones(1))", source=path)


class _Masked(nn.Module):
    """Frames as tokens, with a mask that says which are there (`keep`) or which are not."""

    def __init__(self, keep: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.keep, self.embed, self.head = keep, nn.Linear(192, 8), nn.Linear(8, 5)

    def forward(self, x, mask):
        tokens = self.embed(x.flatten(2))
        hidden = ~mask if self.keep else mask
        scores = (tokens @ tokens.transpose(1, 2)).masked_fill(hidden[:, None], float("-inf"))
        return self.head((scores.softmax(-1) @ tokens).mean(1))


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("name", ["padding_mask", "mask"])
def test_a_mask_hides_nothing_whichever_way_round_it_is_meant(keep, name, tmp_path) -> None:
    net, path = _Masked(keep).eval(), tmp_path / "m.onnx"
    clip, mask = torch.rand(1, 4, 3, 8, 8), torch.full((1, 4), keep)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (clip, mask), str(path), dynamo=False, opset_version=17, input_names=["clip", name])
    target = load(str(path))
    assert torch.allclose(target.model(clip), net(clip, mask), atol=1e-5)
    assert any(f"'{name}' is set to {int(keep)}" in note for note in target.fidelity.notes)


def test_a_file_without_its_weights_is_told_as_such(tmp_path) -> None:
    net, path = nn.Sequential(nn.Flatten(), nn.Linear(768, 5)).eval(), tmp_path / "m.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (torch.rand(1, 4, 3, 8, 8),), str(path), dynamo=False, export_params=False)
    fails(NotAuditable, "3 inputs", "export_params=True", source=str(path))
