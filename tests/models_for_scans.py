"""Factories that scans load by `models_for_scans.py:NAME`."""

import torch
from torch import nn


def _conv3d(cells: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv3d(3, 16, 3, padding=1, stride=(1, 2, 2)),
        nn.ReLU(),
        nn.Conv3d(16, 32, 3, padding=1, stride=2),
        nn.ReLU(),
        nn.Conv3d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64 * cells, 10),
    )


def flat() -> nn.Module:
    """For clips of 8 frames of 32 x 32."""
    return _conv3d(4 * 8 * 8)


def small() -> nn.Module:
    """`flat` for clips of 4 frames of 16 x 16."""
    return _conv3d(2 * 4 * 4)


def tiny() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv3d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv3d(8, 16, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10)
    )


def pooled() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv3d(3, 16, 3, padding=1, stride=(1, 2, 2)),
        nn.BatchNorm3d(16),
        nn.ReLU(),
        nn.Conv3d(16, 32, 3, padding=1, stride=2),
        nn.BatchNorm3d(32),
        nn.ReLU(),
        nn.Conv3d(32, 64, 3, padding=1, stride=2),
        nn.BatchNorm3d(64),
        nn.ReLU(),
        nn.AdaptiveAvgPool3d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


class ViViT(nn.Module):
    def __init__(self, width: int = 96) -> None:
        super().__init__()
        self.embed = nn.Conv3d(3, width, (2, 8, 8), (2, 8, 8))
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.position = nn.Parameter(0.02 * torch.randn(1, 65, width))
        self.block = nn.TransformerEncoderLayer(width, 4, 2 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1) + self.position
        return self.head(self.norm(self.block(x))[:, 0])


def vivit() -> nn.Module:
    torch.manual_seed(0)
    return ViViT()


def residual() -> nn.Module:
    from residual_nets import ResidualNet

    torch.manual_seed(0)
    return ResidualNet().eval()


def narrow() -> nn.Module:
    from residual_nets import ResidualNet

    torch.manual_seed(0)
    return ResidualNet((12, 40, 64)).eval()
