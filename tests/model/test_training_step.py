"""What a training step costs is counted right: operations by hand, bytes against what is really allocated."""

import gc

import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from auditor.model.training_step import observed_step
from auditor.model.video import VideoModel
from auditor.records import InputSpec

SHAPE = (4, 3, 16, 16)
PIXELS = 4 * 16 * 16


class Blocks(nn.Module):
    """Two convolutions that keep the size, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv3d(3, 8, 3, padding=1), nn.Conv3d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.sigmoid(self.first(x))
        return self.head(torch.relu(self.second(x)).mean((2, 3, 4)))


@pytest.fixture
def model() -> VideoModel:
    frames, channels, height, width = SHAPE
    spec = InputSpec(layout="NCTHW", frames=frames, channels=channels, height=height, width=width)
    torch.manual_seed(0)
    return VideoModel(Blocks().eval(), spec)


def test_operations_are_those_of_convolutions_and_products(model: VideoModel) -> None:
    _, step = observed_step(model, torch.rand(1, *SHAPE))
    by_hand = 2 * PIXELS * 27 * (3 * 8 + 8 * 8) + 2 * 8 * 5
    assert step.operations == by_hand


def test_bytes_are_those_of_the_tensors_that_backward_reads(model: VideoModel) -> None:
    """Each storage once: an output of an activation is kept for itself and as the next layer's input."""
    _, step = observed_step(model, torch.rand(1, *SHAPE))
    # The clip, the sigmoid's output, the ReLU's output, and the features that the head reads.
    by_hand = 4 * (PIXELS * (3 + 8 + 8) + 8)
    assert by_hand <= step.kept <= 1.01 * by_hand
    assert step.weights == 4 * sum(p.numel() for p in model.parameters())


def test_counting_keeps_nothing_that_the_pass_does_not(model: VideoModel) -> None:
    """The output can be differentiated once, as that of any other pass."""
    clip = torch.rand(1, *SHAPE)
    seen, _ = observed_step(model, clip)
    parameters = list(model.parameters())
    found = torch.autograd.grad(seen.output.logsumexp(1).sum(), parameters)
    wanted = torch.autograd.grad(model(clip).logsumexp(1).sum(), parameters)
    for ours, plain in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, plain)


def test_what_a_pass_kept_goes_with_it_though_nobody_went_back_through_it():
    spec = InputSpec(frames=2, channels=3, height=4, width=4, layout="NCTHW")
    net = nn.Sequential(nn.Flatten(), nn.Linear(96, 5), nn.Tanh(), nn.Softmax(1), nn.Sigmoid())
    model = VideoModel(net, spec)
    seen, _ = observed_step(model, torch.rand(1, *spec.clip_shape).requires_grad_())
    kept = StorageWeakRef(seen.output.untyped_storage())
    assert not kept.expired()
    del seen
    gc.collect()
    assert kept.expired()
