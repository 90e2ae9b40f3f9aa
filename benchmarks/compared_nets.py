"""Nets that differ in one leaky change each; clips are 8x16x16. Weights are drawn by the caller's seed."""

import torch
from torch import nn

SHAPE = (3, 8, 16, 16)


class _Video(nn.Sequential):
    """Says what it reads."""

    input_shape = SHAPE
    layout = "NCTHW"


def convolutional(pool: str = "average") -> nn.Module:
    """Two convolutions and a head on their average or on all positions."""
    layers: list[nn.Module] = [
        nn.Conv3d(3, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv3d(16, 16, 3, stride=2, padding=1),
        nn.ReLU(),
    ]
    if pool == "average":
        return _Video(*layers, nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(16, 10))
    return _Video(*layers, nn.Flatten(), nn.Linear(16 * 2 * 4 * 4, 10))


def one_layer(stride: int = 2, width: int = 64) -> nn.Module:
    """One convolution with a flattened head, on clips of 4x16x16: 1024 positions of a colour.

    The head gives its outputs and slopes away, and its own gradient then has 27 equations a channel for each colour:
    1728 at stride 1 and width 64, and 1188 at width 44, which determine the clip; 108 at width 4. At stride 2 positions
    fall into eight classes of 128 that meet 1 to 8 taps: at width 44 half of all have too few of their own, 44 or 88.
    At stride 4 a kernel of 3 never reads two frames of four, and a quarter of the positions along height and width.
    """
    net = _Video(
        nn.Conv3d(3, width, 3, stride=stride, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(width * (4 // stride) * (16 // stride) ** 2, 10),
    )
    net.input_shape = (3, 4, 16, 16)
    return net


class Tokens(nn.Module):
    """A small video transformer of 16 tokens with learned positions or none."""

    input_shape = SHAPE
    layout = "NCTHW"

    def __init__(self, positions: str) -> None:
        super().__init__()
        self.embed = nn.Conv3d(3, 96, (2, 8, 8), (2, 8, 8))
        table = 0.02 * torch.randn(1, 16, 96)
        if positions == "learned":
            self.positions = nn.Parameter(table)
        else:
            self.register_buffer("positions", torch.zeros_like(table))
        self.block = nn.TransformerEncoderLayer(96, 4, 96, 0.0, "gelu", batch_first=True, norm_first=True)
        self.head = nn.Linear(96, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits of clips."""
        x = self.embed(x).flatten(2).transpose(1, 2) + self.positions
        return self.head(self.block(x).mean(1))


def tokens(positions: str = "none") -> nn.Module:
    """See `Tokens`."""
    return Tokens(positions)


def head(hidden: int = 1) -> nn.Module:
    """A linear layer on all pixels, or a convolution with an average before it."""
    if not hidden:
        return _Video(nn.Flatten(), nn.Linear(3 * 8 * 16 * 16, 10))
    convolution = nn.Conv3d(3, 8, 3, stride=2, padding=1)
    return _Video(convolution, nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(8, 10))
