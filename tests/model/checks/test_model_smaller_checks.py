"""Derivatives of large clips are checked on a part of them, where the network reads one, and that is told."""

import torch
from torch import Tensor, nn

from auditor.model.checks.derivatives import LARGE_CLIP, smaller_clip
from auditor.model.video import VideoModel
from auditor.records import InputSpec

LARGE = (1, 2, 3, 224, 224)


class Pooled(nn.Module):
    """Reads every size."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).mean((2, 3, 4))


class Fixed(Pooled):
    """Reads one size only."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(2 * 2 * 224 * 224, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x).flatten(1))


def checked_on(network: nn.Module, shape: tuple[int, ...]) -> tuple[int, ...]:
    _, frames, channels, height, width = shape
    spec = InputSpec(layout="NCTHW", frames=frames, channels=channels, height=height, width=width)
    return tuple(smaller_clip(VideoModel(network, spec), torch.rand(shape)).shape)


def test_a_large_clip_shrinks_where_the_network_reads_less() -> None:
    assert torch.Size(LARGE).numel() > LARGE_CLIP
    assert checked_on(Pooled(), LARGE) == (1, 2, 3, 28, 28)
    assert checked_on(Pooled(), (1, 16, 3, 112, 112)) == (1, 8, 3, 28, 28)


def test_a_network_of_one_size_keeps_its_clip() -> None:
    assert checked_on(Fixed(), LARGE) == LARGE


def test_a_small_clip_stays() -> None:
    assert checked_on(Pooled(), (1, 8, 3, 32, 32)) == (1, 8, 3, 32, 32)
