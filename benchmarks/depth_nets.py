"""Nets for video as they are deployed, for `depths.py`.

All take (clip, channel, frame, height, width), have ten classes, fresh seeded weights, and BatchNorm that holds the
statistics of shipped clips. S3D's last average adapts to the size, as torchvision's takes 16x224x224 and no less. X3D
and SlowFast are small nets of that kind, after Feichtenhofer 2020 (arXiv 2004.04730) and Feichtenhofer et al. 2019
(arXiv 1812.03982).
"""

from collections.abc import Callable
from itertools import pairwise

import torch
from deep_suite import OverFrames
from torch import Tensor, nn
from torchvision.models import mobilenet_v3_small, resnet18
from torchvision.models.video import mc3_18, r2plus1d_18, r3d_18, s3d


def _normed(inputs: int, outputs: int, kernel: tuple[int, ...], stride: tuple[int, ...], groups: int = 1) -> nn.Module:
    padding = tuple(k // 2 for k in kernel)
    conv = nn.Conv3d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)  # type: ignore[arg-type]
    return nn.Sequential(conv, nn.BatchNorm3d(outputs))


class SqueezeExcitation(nn.Module):
    """A gate for each channel, from its average."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool3d(1),
            nn.Conv3d(channels, channels // 4, 1),
            nn.ReLU(),
            nn.Conv3d(channels // 4, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)


class X3DBlock(nn.Module):
    """Pointwise, depthwise with a gate and swish, pointwise; a shortcut; ReLU behind the sum."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        inside, steps = 2 * outputs, (1, stride, stride)
        self.branch = nn.Sequential(
            _normed(inputs, inside, (1, 1, 1), (1, 1, 1)),
            nn.ReLU(),
            _normed(inside, inside, (3, 3, 3), steps, inside),
            SqueezeExcitation(inside),
            nn.SiLU(),
            _normed(inside, outputs, (1, 1, 1), (1, 1, 1)),
        )
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else _normed(inputs, outputs, (1, 1, 1), steps)

    def forward(self, x: Tensor) -> Tensor:
        return (self.branch(x) + self.shortcut(x)).relu()


class X3DLike(nn.Module):
    """A stem, six blocks that halve the frame three times, a pointwise layer, an average, two Linear layers."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        widths = (24, 48, 96, 192)
        self.stem = nn.Sequential(_normed(3, 24, (1, 3, 3), (1, 2, 2)), nn.ReLU())
        pairs = pairwise(widths)
        self.blocks = nn.Sequential(*(m for a, b in pairs for m in (X3DBlock(a, b, 2), X3DBlock(b, b, 1))))
        self.last = nn.Sequential(_normed(192, 432, (1, 1, 1), (1, 1, 1)), nn.ReLU(), nn.AdaptiveAvgPool3d(1))
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(432, 512), nn.ReLU(), nn.Linear(512, classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.last(self.blocks(self.stem(x))))


class Bottleneck(nn.Module):
    """Three convolutions, the first over time, and a shortcut, as in SlowFast."""

    def __init__(self, inputs: int, inside: int, outputs: int, time: int, stride: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            _normed(inputs, inside, (time, 1, 1), (1, 1, 1)),
            nn.ReLU(),
            _normed(inside, inside, (1, 3, 3), (1, stride, stride)),
            nn.ReLU(),
            _normed(inside, outputs, (1, 1, 1), (1, 1, 1)),
        )
        self.shortcut = _normed(inputs, outputs, (1, 1, 1), (1, stride, stride))

    def forward(self, x: Tensor) -> Tensor:
        return (self.branch(x) + self.shortcut(x)).relu()


class SlowFastLike(nn.Module):
    """A wide pathway on every fourth frame and a narrow one on all, with laterals that are concatenated."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.slow = nn.Sequential(_normed(3, 64, (1, 5, 5), (1, 2, 2)), nn.ReLU())
        self.fast = nn.Sequential(_normed(3, 8, (5, 5, 5), (1, 2, 2)), nn.ReLU())
        stages = [(64, 64, 128, 1), (128, 128, 256, 2), (256, 256, 512, 2)]
        self.slow_stages = nn.ModuleList(
            Bottleneck(a + 2 * f, b, c, 1, s) for (a, b, c, s), f in zip(stages, (8, 16, 32), strict=True)
        )
        narrow = [(8, 8, 16, 1), (16, 16, 32, 2), (32, 32, 64, 2)]
        self.fast_stages = nn.ModuleList(Bottleneck(a, b, c, 3, s) for a, b, c, s in narrow)
        self.laterals = nn.ModuleList(
            nn.Sequential(_normed(f, 2 * f, (5, 1, 1), (4, 1, 1)), nn.ReLU()) for f in (8, 16, 32)
        )
        self.head = nn.Linear(512 + 64, classes)

    def forward(self, x: Tensor) -> Tensor:
        slow, fast = self.slow(x[:, :, ::4]), self.fast(x)
        for wide, narrow, lateral in zip(self.slow_stages, self.fast_stages, self.laterals, strict=True):
            slow = wide(torch.cat([slow, lateral(fast)], 1))
            fast = narrow(fast)
        return self.head(torch.cat([slow.mean((2, 3, 4)), fast.mean((2, 3, 4))], 1))


def _s3d() -> nn.Module:
    net = s3d(num_classes=10)
    net.avgpool = nn.AdaptiveAvgPool3d(1)
    return net


# Name, frames, height; how many clips share the update.
DEPTH_NETS: dict[str, tuple[Callable[[], nn.Module], int, int]] = {
    "frame-resnet-18": (lambda: OverFrames(resnet18(num_classes=10)), 8, 64),
    "r3d_18": (lambda: r3d_18(num_classes=10), 8, 32),
    "mc3_18": (lambda: mc3_18(num_classes=10), 8, 32),
    "r2plus1d_18": (lambda: r2plus1d_18(num_classes=10), 8, 32),
    "s3d": (_s3d, 8, 64),
    "x3d-like": (X3DLike, 8, 32),
    "slowfast-like": (SlowFastLike, 8, 32),
    "frame-mobilenet-v3": (lambda: OverFrames(mobilenet_v3_small(num_classes=10)), 8, 64),
}
