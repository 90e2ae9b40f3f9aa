"""A file whose batch cannot be released is refused with the number that failed, and with what to give."""

import warnings
from pathlib import Path

import torch
from refusals import fails
from torch import Tensor, nn
from zoo import export

from auditor.errors import NotAuditable
from auditor.model import load


class Pooled(nn.Module):
    """Averages the inputs of its batch in groups of a fixed number."""

    def __init__(self, group: int, axes: int) -> None:
        super().__init__()
        self.group = group
        self.conv = nn.Conv2d(3, 4, 3, 2, 1) if axes == 2 else nn.Conv3d(3, 4, 3, 2, 1)
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x).relu().flatten(2).mean(2)).view(-1, self.group, 5).mean(1)


class Mixing(nn.Module):
    """Takes the mean of the batch off, with the batch's own size."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(768, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(x.flatten(1))
        return x - 0.1 * x.mean(0, keepdim=True)


class Kept(Pooled):
    """Answers for each input of a group."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x).relu().flatten(2).mean(2)).view(-1, self.group, 5)


def exported(net: nn.Module, shape: tuple[int, ...], path: Path, **options) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # this exporter is deprecated
        torch.onnx.export(net.eval(), (torch.rand(shape),), path, dynamo=False, **options)
    return str(path)


def test_frames_fixed_in_the_batch_are_told_with_the_shape_to_give(tmp_path) -> None:
    torch.manual_seed(0)
    path = exported(Pooled(4, 2), (4, 3, 16, 16), tmp_path / "m.onnx")
    text = fails(NotAuditable, "fixes 4 frames in its batch", "--input-shape 4,3,16,16", source=path)
    assert "e-0" not in text
    target = load(path, input_shape=(4, 3, 16, 16))
    assert (target.input.frames, target.classes) == (4, 5)


def test_answers_for_each_frame_or_for_parts_of_the_batch_are_told_too(tmp_path) -> None:
    torch.manual_seed(0)
    path = exported(Kept(4, 2), (4, 3, 16, 16), tmp_path / "kept.onnx")
    fails(NotAuditable, "answers once for all of them", "--input-shape 4,3,16,16", source=path)
    target = load(path, input_shape=(4, 3, 16, 16))
    assert (target.input.frames, target.output.frames) == (4, 4)
    path = exported(Pooled(2, 2), (4, 3, 16, 16), tmp_path / "halves.onnx")
    text = fails(NotAuditable, "fixes 4 frames", "answers 2 times, once for 2 of them", source=path)
    assert "--input-shape" not in text


def test_a_file_that_lets_batches_in_and_mixes_them_is_refused_too(tmp_path) -> None:
    torch.manual_seed(0)
    path = exported(
        Mixing(), (2, 3, 4, 8, 8), tmp_path / "m.onnx", input_names=["clip"], dynamic_axes={"clip": {0: "n"}}
    )
    fails(NotAuditable, "mixes the clips of a batch", source=path)


def test_clips_fixed_in_the_batch_are_not_called_frames(tmp_path) -> None:
    torch.manual_seed(0)
    path = exported(Pooled(2, 3), (2, 3, 4, 16, 16), tmp_path / "m.onnx")
    text = fails(NotAuditable, "fixes 2 clips in its batch", source=path)
    assert "--input-shape" not in text


def test_clips_that_a_model_mixes_are_told_by_how_much(tmp_path) -> None:
    torch.manual_seed(0)
    path = exported(Mixing(), (2, 3, 4, 8, 8), tmp_path / "m.onnx")
    text = fails(NotAuditable, "mixes the clips of a batch", source=path)
    assert float(text.split("differ by ")[1].split(" ")[0]) > 1e-4


def test_a_model_of_frames_with_an_answer_for_each_still_loads(tmp_path) -> None:
    torch.manual_seed(0)
    path = export(Pooled(1, 2), tmp_path / "m.onnx", "legacy", (3, 16, 16))
    assert load(str(path)).input.frames == 1
