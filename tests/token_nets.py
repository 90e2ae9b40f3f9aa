"""Small video transformers whose position tables are fixed, frozen or learned."""

import torch
from bench_nets import CLASSES
from torch import Tensor, nn
from torch.nn import functional as F


def sin_cos(tokens: int, width: int) -> Tensor:
    """The table of Vaswani et al. 2017, as video transformers use it over all tokens in a row."""
    rates = torch.arange(width) // 2 * 2 / width
    angle = torch.arange(tokens)[:, None] / 10_000**rates
    return torch.where(torch.arange(width) % 2 == 0, angle.sin(), angle.cos())


class AttentionBlock(nn.Module):
    """A block with norms first, its attention written out."""

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, z: Tensor) -> Tensor:
        b, n, d = z.shape
        q, k, v = self.qkv(self.norm1(z)).reshape(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4).unbind()
        weight = (q @ k.transpose(-1, -2) * self.scale).softmax(-1)
        z = z + self.out((weight @ v).transpose(1, 2).reshape(b, n, d))
        return z + self.down(F.gelu(self.up(self.norm2(z))))


class FixedVit(nn.Module):
    """Tubelets by a convolution, a table of positions that is no parameter unless learned, two blocks, a mean."""

    def __init__(
        self, width: int = 64, tokens: int = 32, kind: str = "sin-cos", token: bool = False, side: int = 4
    ) -> None:
        super().__init__()
        self.embed = nn.Conv3d(3, width, (2, side, side), (2, side, side))
        table = sin_cos(tokens, width) if kind == "sin-cos" else 0.1 * torch.randn(tokens, width)
        if kind == "learned":
            self.table = nn.Parameter(table)
        else:
            self.register_buffer("table", table)
        self.token = nn.Parameter(0.1 * torch.randn(1, 1, width)) if token else None
        self.blocks = nn.Sequential(AttentionBlock(width), AttentionBlock(width))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, CLASSES)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.04)

    def forward(self, x: Tensor) -> Tensor:
        z = self.embed(x).flatten(2).transpose(1, 2) + self.table
        if self.token is not None:
            z = torch.cat([self.token.expand(len(z), -1, -1), z], 1)
        return self.head(self.norm(self.blocks(z)).mean(1))
