"""Export a small video transformer (ViViT-like) to ONNX: the model that `make demo` audits.

Usage: python examples/export_video_transformer.py OUT.onnx
"""

import sys
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """Pre-norm self-attention and MLP (Vaswani et al. 2017; Dosovitskiy et al. 2021)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens `(clip, token, width)` to the same shape."""
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.norm2(x))


class VideoTransformer(nn.Module):
    """Tubelet embedding, learned position embedding, two blocks, mean pool (after ViViT, arXiv 2103.15691)."""

    input_shape = (3, 8, 32, 32)

    def __init__(self, classes: int = 10, width: int = 192) -> None:
        super().__init__()
        self.embed = nn.Conv3d(3, width, kernel_size=(2, 8, 8), stride=(2, 8, 8))
        self.position = nn.Parameter(0.02 * torch.randn(1, 64, width))
        self.blocks = nn.Sequential(Block(width, 4), Block(width, 4))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, clips: Tensor) -> Tensor:
        """Map clips `(clip, 3, 8, 32, 32)` to logits `(clip, class)`."""
        tokens = self.embed(clips).flatten(2).transpose(1, 2) + self.position
        return self.head(self.norm(self.blocks(tokens)).mean(dim=1))


def factory() -> nn.Module:
    """Build the net, so that `fl-audit scan examples/export_video_transformer.py:factory` works too."""
    torch.manual_seed(0)
    return VideoTransformer()


def main() -> None:
    """Export with the defaults that most people use."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    out = Path(sys.argv[1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(factory().eval(), (torch.rand(1, 3, 8, 32, 32),), str(out), dynamo=True, verbose=False)
    print(f"wrote {out}")


if __name__ == "__main__":
    main()
