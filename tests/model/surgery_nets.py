"""Networks and what they become by hand under one change each."""

import torch
from torch import nn


def convolutional(
    *, pool: str = "average", stride: int = 2, kernel: int = 3, act: type[nn.Module] = nn.ReLU, norm: str = "batch"
) -> nn.Sequential:
    """A 3-D convolutional net on (3, 4, 8, 8)."""
    norms = {
        "batch": lambda c: nn.BatchNorm3d(c),
        "group": lambda c: nn.GroupNorm(4, c),
        "none": lambda c: nn.Identity(),
    }
    layers = [
        nn.Conv3d(3, 4, kernel, stride=stride, padding=kernel // 2),
        norms[norm](4),
        act(),
        nn.Conv3d(4, 4, 3, padding=1),
        act(),
        nn.AdaptiveAvgPool3d(1) if pool == "average" else nn.Identity(),
        nn.Flatten(),
    ]
    side = -(-8 // stride)
    positions = 1 if pool == "average" else -(-4 // stride) * side * side
    return nn.Sequential(*layers, nn.Dropout(0.5), nn.Linear(4 * positions, 5))


class Tokens(nn.Module):
    """Patches, positions and one transformer layer, on (3, 4, 8, 8)."""

    def __init__(self, act: str = "relu", positions: str = "learned") -> None:
        super().__init__()
        self.embed = nn.Conv3d(3, 8, (2, 4, 4), (2, 4, 4))
        table = 0.1 * torch.randn(1, 8, 8)
        if positions == "learned":
            self.pos_embed = nn.Parameter(table)
        else:
            self.register_buffer("pos_embed", torch.zeros(1, 8, 8) if positions == "none" else table)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, 0.0, act, batch_first=True)
        self.head = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2) + self.pos_embed
        return self.head(self.block(x).mean(1))


class Functional(nn.Module):
    """Everything that forward does by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(3, 4, 3, padding=1)
        self.act = nn.ReLU()
        self.head = nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.act(self.conv(x))).mean((2, 3, 4)))
