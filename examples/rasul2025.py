"""Networks of the study `rasul2025.toml`, and the program that trains them on the shipped clips.

Two ways to classify video in a federation, after Rasul et al. 2025 (arXiv 2509.09742): raw frames, and a frozen
extractor of single frames (EfficientNet-Lite0 with ImageNet weights) with a trained head on its features.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

CLASSES = 7
FRAMES, SIDE = 8, 48
FEATURES = 1280


def conv3d() -> nn.Module:
    """Raw frames: three convolutions over space and time, a Linear on all positions."""
    return nn.Sequential(
        nn.Conv3d(3, 16, 3, stride=(1, 2, 2), padding=1),
        nn.ReLU(),
        nn.Conv3d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv3d(32, 32, 3, stride=(1, 2, 2), padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * (FRAMES // 2) * (SIDE // 8) ** 2, CLASSES),
    )


class CnnGru(nn.Module):
    """Raw frames: convolutions on every frame, a GRU over frames, a Linear on its last state."""

    def __init__(self) -> None:
        super().__init__()
        self.frames = nn.Sequential(
            nn.Conv2d(3, 12, 5, stride=2, padding=2),
            nn.GELU(),
            nn.Conv2d(12, 24, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(24, 24, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Flatten(),
        )
        self.gru = nn.GRU(24 * (SIDE // 8) ** 2, 64, batch_first=True)
        self.head = nn.Linear(64, CLASSES)

    def forward(self, clips: Tensor) -> Tensor:
        """Map clips `(clip, 3, frame, height, width)` to logits."""
        b, c, t, h, w = clips.shape
        features = self.frames(clips.transpose(1, 2).reshape(b * t, c, h, w)).reshape(b, t, -1)
        return self.head(self.gru(features)[0][:, -1])


def cnn_gru() -> nn.Module:
    """Build the CNN with a GRU."""
    return CnnGru()


def linear() -> nn.Module:
    """Head: one Linear on the features of all frames."""
    return nn.Linear(FRAMES * FEATURES, CLASSES)


def _mlp(*widths: int) -> nn.Module:
    layers: list[nn.Module] = []
    before = FRAMES * FEATURES
    for width in widths:
        layers += [nn.Linear(before, width), nn.ReLU()]
        before = width
    return nn.Sequential(*layers, nn.Linear(before, CLASSES))


def mlp_1_narrow() -> nn.Module:
    """Head: one hidden layer of 16."""
    return _mlp(16)


def mlp_1_wide() -> nn.Module:
    """Head: one hidden layer of 128."""
    return _mlp(128)


def mlp_2() -> nn.Module:
    """Head: two hidden layers of 64."""
    return _mlp(64, 64)


def mlp_3() -> nn.Module:
    """Head: three hidden layers of 64."""
    return _mlp(64, 64, 64)


def per_frame() -> nn.Module:
    """Head: a Linear on every frame; the logits of a clip are the mean of those of its frames."""
    return nn.Linear(FEATURES, CLASSES)


class GruHead(nn.Module):
    """Head: a GRU over the frames' features, a Linear on its last state."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(FEATURES, 32, batch_first=True)
        self.out = nn.Linear(32, CLASSES)

    def forward(self, features: Tensor) -> Tensor:
        """Map `(clip, frame, feature)` to logits."""
        return self.out(self.gru(features)[0][:, -1])


def gru() -> nn.Module:
    """Build the recurrent head."""
    return GruHead()


class AttentionHead(nn.Module):
    """Head: every frame is projected, one block of self-attention over frames, mean over frames, a Linear."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.project = nn.Linear(FEATURES, width)
        self.position = nn.Parameter(0.02 * torch.randn(1, FRAMES, width))
        self.block = nn.TransformerEncoderLayer(
            width, 4, 2 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.out = nn.Linear(width, CLASSES)

    def forward(self, features: Tensor) -> Tensor:
        """Map `(clip, frame, feature)` to logits."""
        return self.out(self.block(self.project(features) + self.position).mean(1))


def attention() -> nn.Module:
    """Build the head with attention."""
    return AttentionHead()


def train(
    forward: Callable[[Tensor], Tensor], parameters: Mapping[str, Tensor], inputs: Tensor, labels: Tensor, seed: int
) -> None:
    """Train by Adam until the loss is small: which scene does a window come from?

    `inputs` are clips, or the features of the frozen extractor; `forward` maps a batch of them to logits. The
    parameters change in place.
    """
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(list(parameters.values()), lr=1e-3)
    for _ in range(12):
        for batch in torch.randperm(len(inputs), generator=generator).split(12):
            loss = nn.functional.cross_entropy(forward(inputs[batch]), labels[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        if float(loss.detach()) < 0.05:
            return
