"""The eight nets on which attacks are compared: small video classifiers for 8x32x32 clips, with fresh seeded weights.

Every net takes (clip, channel, frame, height, width) and has ten classes.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def conv3d(activation: Callable[[], nn.Module], *, flatten: bool, norm: bool = False) -> nn.Module:
    """Three Conv3d of 16, 32 and 64 channels, each of stride 2, and a head that is flattened or pooled."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    width = 3
    for wider, stride in ((16, (1, 2, 2)), (32, 2), (64, 2)):
        layers.append(nn.Conv3d(width, wider, 3, padding=1, stride=stride))
        if norm:
            layers.append(nn.BatchNorm3d(wider))
        layers.append(activation())
        width = wider
    if flatten:
        layers += [nn.Flatten(), nn.Linear(64 * 2 * 4 * 4, 10)]
    else:
        layers += [nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(64, 10)]
    return nn.Sequential(*layers)


class SlowFast(nn.Module):
    """A slow pathway with many channels on every fourth frame, a fast one with few on all, and a lateral connection."""

    def __init__(self) -> None:
        super().__init__()
        self.slow = nn.Sequential(
            nn.Conv3d(3, 32, (1, 3, 3), (1, 2, 2), (0, 1, 1)), nn.ReLU(), nn.Conv3d(32, 32, 3, (1, 2, 2), 1), nn.ReLU()
        )
        self.fast = nn.Sequential(
            nn.Conv3d(3, 8, 3, (1, 2, 2), 1), nn.ReLU(), nn.Conv3d(8, 8, 3, (1, 2, 2), 1), nn.ReLU()
        )
        self.lateral = nn.Conv3d(8, 16, (4, 1, 1), (4, 1, 1))
        self.fused = nn.Conv3d(48, 64, 3, 2, 1)
        self.head = nn.Linear(64 + 8, 10)

    def forward(self, clips: Tensor) -> Tensor:
        slow, fast = self.slow(clips[:, :, ::4]), self.fast(clips)
        both = F.relu(self.fused(torch.cat([slow, self.lateral(fast)], dim=1)))
        return self.head(torch.cat([both.mean((2, 3, 4)), fast.mean((2, 3, 4))], dim=1))


class ConvGru(nn.Module):
    """A small frame net, a GRU over its features, and a head on the last state."""

    def __init__(self) -> None:
        super().__init__()
        self.frames = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(),
            nn.AdaptiveAvgPool2d(4), nn.Flatten(),
        )  # fmt: skip
        self.recurrent = nn.GRU(512, 32, batch_first=True)
        self.head = nn.Linear(32, 10)

    def forward(self, clips: Tensor) -> Tensor:
        features = self.frames(clips.transpose(1, 2).flatten(0, 1)).unflatten(0, (len(clips), -1))
        states, _ = self.recurrent(features)
        return self.head(states[:, -1])


class FixedViViT(nn.Module):
    """Tubelets, a class token, fixed sine-cosine positions (nothing is sent for them), two pre-norm blocks."""

    def __init__(self, width: int = 64, tokens: int = 65) -> None:
        super().__init__()
        self.embed = nn.Conv3d(3, width, (2, 8, 8), (2, 8, 8))
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        angle = torch.arange(tokens)[:, None] / 10000 ** (torch.arange(0, width, 2) / width)
        self.register_buffer("position", torch.cat([angle.sin(), angle.cos()], dim=1)[None])
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 4, 2 * width, 0.0, "gelu", batch_first=True, norm_first=True)
            for _ in range(2)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)

    def forward(self, clips: Tensor) -> Tensor:
        x = self.embed(clips).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1) + self.position
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


class _Residual(nn.Module):
    def __init__(self, width: int, wider: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(width, wider, 3, stride, 1, bias=False), nn.BatchNorm2d(wider)
        self.conv2, self.norm2 = nn.Conv2d(wider, wider, 3, 1, 1, bias=False), nn.BatchNorm2d(wider)
        same = stride == 1 and width == wider
        self.short = nn.Identity() if same else nn.Conv2d(width, wider, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x))))) + self.short(x))


class FrameResNet(nn.Module):
    """A residual net on every frame and the mean of the frames' logits: no parameter knows the order of frames."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
            _Residual(16, 16, 1), _Residual(16, 32, 2), _Residual(32, 64, 2),
        )  # fmt: skip
        self.head = nn.Linear(64, 10)

    def forward(self, clips: Tensor) -> Tensor:
        features = self.stem(clips.transpose(1, 2).flatten(0, 1)).mean((2, 3))
        return self.head(features).unflatten(0, (len(clips), -1)).mean(1)


def _seeded(kind: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return kind()


SUITE: dict[str, Callable[[], nn.Module]] = {
    "conv3d-flatten-relu": lambda: conv3d(nn.ReLU, flatten=True),
    "conv3d-flatten-gelu": lambda: conv3d(nn.GELU, flatten=True),
    "conv3d-pooled": lambda: conv3d(nn.ReLU, flatten=False),
    "conv3d-pooled-batchnorm": lambda: conv3d(nn.ReLU, flatten=False, norm=True),
    "slowfast-like": lambda: _seeded(SlowFast),
    "cnn-gru": lambda: _seeded(ConvGru),
    "vivit-fixed-positions": lambda: _seeded(FixedViViT),
    "frame-resnet": lambda: _seeded(FrameResNet),
}
