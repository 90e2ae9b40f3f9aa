"""Nets of the story that the gate is tested by: a small state to begin with, and the change that opens its updates."""

import math
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn


class VideoTransformer(nn.Module):
    """More tokens (32) than features (24), so that fixed positions hold the token attack off."""

    def __init__(self, learned: bool) -> None:
        super().__init__()
        self.embed = nn.Conv3d(3, 24, (2, 4, 4), (2, 4, 4))
        angles = torch.arange(32)[:, None] * torch.exp(-torch.arange(0, 24, 2) / 24 * math.log(1e4))[None]
        if learned:
            self.position = nn.Parameter(0.1 * torch.randn(1, 32, 24))
        else:
            # Sines and cosines, which a reader of the exported file knows for fixed.
            self.register_buffer("position", torch.cat([angles.sin(), angles.cos()], 1)[None])
        self.norm1, self.norm2, self.norm = nn.LayerNorm(24), nn.LayerNorm(24), nn.LayerNorm(24)
        self.query, self.key, self.value = nn.Linear(24, 24), nn.Linear(24, 24), nn.Linear(24, 24)
        self.wide, self.narrow = nn.Linear(24, 48), nn.Linear(48, 24)
        self.head = nn.Linear(24, 10)

    def forward(self, clips: Tensor) -> Tensor:
        tokens = self.embed(clips).flatten(2).transpose(1, 2) + self.position
        seen = self.norm1(tokens)
        weights = (self.query(seen) @ self.key(seen).transpose(1, 2) / 24**0.5).softmax(-1)
        tokens = tokens + weights @ self.value(seen)
        tokens = tokens + self.narrow(nn.functional.gelu(self.wide(self.norm2(tokens))))
        return self.head(self.norm(tokens).mean(1))


def transformer(learned: bool = False) -> nn.Module:
    """Fixed to learned positions."""
    torch.manual_seed(0)
    return VideoTransformer(learned)


def pooled(flat: bool = False) -> nn.Module:
    """An average pool to a flatten."""
    torch.manual_seed(0)
    body = (
        nn.Conv3d(3, 8, 3, padding=1, stride=(1, 2, 2)), nn.Sigmoid(),
        nn.Conv3d(8, 16, 3, padding=1, stride=2), nn.Sigmoid(),
    )  # fmt: skip
    end = (nn.Flatten(), nn.Linear(512, 10)) if flat else (nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(16, 10))
    return nn.Sequential(*body, *end)


def strided(stride: int = 2) -> nn.Module:
    """Stride 2, which leaves fewer numbers than the clip has, to stride 1."""
    torch.manual_seed(0)
    size = 8 * 4 * (16 // stride) ** 2
    conv = nn.Conv3d(3, 8, 3, padding=1, stride=(1, stride, stride))
    return nn.Sequential(conv, nn.Sigmoid(), nn.Flatten(), nn.Linear(size, 10))


def exported(net: nn.Module, path: Path) -> Path:
    """Write a net as a training pipeline does, and return the path: what the seed makes is the same file each time."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net.eval(), (torch.zeros(1, 3, 4, 16, 16),), path, dynamo=False, input_names=["clips"],
            output_names=["logits"], dynamic_axes={"clips": {0: "batch"}}, do_constant_folding=False, opset_version=17,
        )  # fmt: skip
    return path
