"""The network of this project: what a pull request changes, and the audit watches."""

import torch
from torch import Tensor, nn

# Averages over space and time before the head. Without it every place's features reach the head, and its update.
POOL = True
# Of the first convolution. Every stride that is taken away gives whoever reads the update more equations.
STRIDE = 2
CLASSES = 10
CLIP = (3, 4, 16, 16)


class ClipNet(nn.Module):
    """Two convolutions over (channel, frame, row, column), and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.early = nn.Conv3d(3, 8, 3, padding=1, stride=(1, STRIDE, STRIDE))
        self.late = nn.Conv3d(8, 16, 3, padding=1, stride=2)
        self.end = nn.Sequential(nn.AdaptiveAvgPool3d(1) if POOL else nn.Identity(), nn.Flatten())
        with torch.no_grad():
            width = self.features(torch.zeros(1, *CLIP)).shape[1]
        self.head = nn.Linear(width, CLASSES)

    def features(self, clips: Tensor) -> Tensor:
        """Return what the head reads."""
        return self.end(self.late(self.early(clips).sigmoid()).sigmoid())

    def forward(self, clips: Tensor) -> Tensor:
        """Return logits (clip, class) of clips (clip, channel, frame, row, column)."""
        return self.head(self.features(clips))


def net() -> nn.Module:
    """Return the network with the weights that clients start from."""
    torch.manual_seed(0)
    return ClipNet()
