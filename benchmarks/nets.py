"""The nets of the benchmarks: small video classifiers that people really build, with fresh seeded weights."""

import torch
from torch import Tensor, nn


def conv3d_flatten() -> nn.Module:
    """Three Conv3d, ReLU, flatten, Linear: 0.23 million parameters."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv3d(3, 16, 3, padding=1, stride=(1, 2, 2)),
        nn.ReLU(),
        nn.Conv3d(16, 32, 3, padding=1, stride=2),
        nn.ReLU(),
        nn.Conv3d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64 * 4 * 8 * 8, 10),
    )


def conv3d_bn_pooled() -> nn.Module:
    """Three Conv3d with BatchNorm, ReLU, global average pool, Linear: 0.07 million parameters."""
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


class _ViViT(nn.Module):
    def __init__(self, width: int = 192) -> None:
        super().__init__()
        self.embed = nn.Conv3d(3, width, (2, 8, 8), (2, 8, 8))
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.position = nn.Parameter(0.02 * torch.randn(1, 65, width))
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


def vivit() -> nn.Module:
    """Tubelet embedding, class token, learned position embedding, two blocks: 0.68 million parameters."""
    torch.manual_seed(0)
    return _ViViT()


def r3d_18() -> nn.Module:
    """torchvision's r3d_18 with ten classes: 33 million parameters."""
    import torchvision

    torch.manual_seed(0)
    return torchvision.models.video.r3d_18(num_classes=10)


NETS = (conv3d_flatten, conv3d_bn_pooled, vivit, r3d_18)
