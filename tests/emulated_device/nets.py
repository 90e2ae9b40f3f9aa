"""Tiny nets for whole scans on the emulated device, as `nets.py:NAME`."""

import torch
from torch import Tensor, nn


def pooled() -> nn.Module:
    """A convolution, BatchNorm, dropout, a mean: everything that a client trains."""
    torch.manual_seed(0)
    first = nn.Conv3d(3, 8, 3, padding=1, stride=(1, 2, 2))
    return nn.Sequential(
        first, nn.BatchNorm3d(8), nn.ReLU(), nn.Conv3d(8, 8, 3, padding=1, stride=2), nn.ReLU(), nn.Dropout(0.2),
        nn.AdaptiveAvgPool3d(2), nn.Flatten(), nn.Linear(64, 6),
    )  # fmt: skip


class Tokens(nn.Module):
    """Tubelets with learned positions and one attention block."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.embed = nn.Conv3d(3, width, (2, 4, 4), (2, 4, 4))
        self.position = nn.Parameter(0.1 * torch.randn(1, 32, width))
        self.block = nn.TransformerEncoderLayer(width, 4, width, dropout=0.0, batch_first=True, norm_first=True)
        self.head = nn.Linear(width, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2) + self.position
        return self.head(self.block(x).mean(dim=1))


def tokens() -> nn.Module:
    """Return the video transformer."""
    torch.manual_seed(0)
    return Tokens()


def shades() -> nn.Module:
    """A frozen extractor of frames."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, 4, 1), nn.ReLU(), nn.Flatten())
    net.input_shape = (4, 3, 16, 16)
    return net


class Recurrent(nn.Module):
    """A GRU over the frames' features."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(8 * 4 * 4, 16, batch_first=True)
        self.head = nn.Linear(16, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][:, -1])


def recurrent() -> nn.Module:
    """Return the head that is trained."""
    torch.manual_seed(1)
    return Recurrent()
