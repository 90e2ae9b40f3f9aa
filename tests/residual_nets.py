"""Small residual nets: basic blocks in two and three dimensions, with norms that have seen something."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from bench_nets import CLASSES
from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two convolutions and a shortcut, as in ResNet-18; the sum is made in place."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv3d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm3d(outputs)
        self.conv2, self.norm2 = nn.Conv3d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm3d(outputs)
        self.shortcut = (
            nn.Sequential(nn.Conv3d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm3d(outputs))
            if stride > 1 or inputs != outputs
            else nn.Identity()
        )
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(self.relu(self.norm1(self.conv1(x)))))
        y += self.shortcut(x)
        return self.relu(y)


class ResidualNet(nn.Module):
    """A stem, blocks of growing width with strides, an average over positions, a Linear head."""

    def __init__(self, widths: Sequence[int] = (24, 40, 48), classes: int = CLASSES) -> None:
        super().__init__()
        first = widths[0]
        self.stem = nn.Sequential(nn.Conv3d(3, first, 3, (1, 2, 2), 1, bias=False), nn.BatchNorm3d(first), nn.ReLU())
        blocks = [BasicBlock(first, first)]
        for before, after in pairwise(widths):
            blocks += [BasicBlock(before, after, 2), BasicBlock(after, after)]
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(widths[-1], classes)
        with_seen_norms(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3, 4)))


class FlatBlock(nn.Module):
    """Two 2-D convolutions and a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
        self.conv2, self.norm2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return (self.norm2(self.conv2(self.norm1(self.conv1(x)).relu())) + self.shortcut(x)).relu()


class FrameNet(nn.Module):
    """One 2-D residual net for all frames (NCTHW), then an average over them: of features, or of logits."""

    def __init__(self, average: str = "features", classes: int = CLASSES) -> None:
        super().__init__()
        self.average = average
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU())
        self.blocks = nn.Sequential(FlatBlock(16, 48, 2), FlatBlock(48, 128, 2), FlatBlock(128, 128))
        self.head = nn.Linear(128, classes)
        with_seen_norms(self)
        with torch.no_grad():  # norms that do not squash what tells frames apart
            for _ in range(20):
                self(nn.functional.interpolate(torch.rand(4, 3, 4, 6, 6), (4, 16, 16)))

    def forward(self, x: Tensor) -> Tensor:
        frames = x.transpose(1, 2)
        features = self.blocks(self.stem(frames.flatten(0, 1))).mean((2, 3)).view(*frames.shape[:2], -1)
        return self.head(features.mean(1)) if self.average == "features" else self.head(features).mean(1)


def with_seen_norms(net: nn.Module) -> nn.Module:
    """Give every BatchNorm statistics and weights of its own, from torch's generator."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm3d | nn.BatchNorm2d):
            module.weight.data.uniform_(0.7, 1.3)
            module.bias.data.normal_(0.0, 0.1)
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0.0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return net
