"""The network of this project: what a pull request changes, and the audit watches."""

import math

import torch
from torch import Tensor, nn

# "fixed" or "learned". The gradient of learned positions gives a clip's tokens away in closed form.
POSITIONS = "fixed"
CLASSES, WIDTH, TOKENS = 10, 24, 32
CLIP = (3, 4, 16, 16)


class ClipTransformer(nn.Module):
    """Tubelets of 2 frames and 4x4 pixels, one block of attention, and a head on the mean token."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv3d(3, WIDTH, (2, 4, 4), (2, 4, 4))
        if POSITIONS == "learned":
            self.position = nn.Parameter(0.1 * torch.randn(1, TOKENS, WIDTH))
        else:
            self.register_buffer("position", sines_and_cosines())
        self.norm1, self.norm2, self.norm = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.query, self.key, self.value = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.wide, self.narrow = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, clips: Tensor) -> Tensor:
        """Return logits (clip, class) of clips (clip, channel, frame, row, column)."""
        tokens = self.embed(clips).flatten(2).transpose(1, 2) + self.position
        seen = self.norm1(tokens)
        weights = (self.query(seen) @ self.key(seen).transpose(1, 2) / WIDTH**0.5).softmax(-1)
        tokens = tokens + weights @ self.value(seen)
        tokens = tokens + self.narrow(nn.functional.gelu(self.wide(self.norm2(tokens))))
        return self.head(self.norm(tokens).mean(1))


def sines_and_cosines() -> Tensor:
    """Return fixed positions (1, token, feature)."""
    angles = torch.arange(TOKENS)[:, None] * torch.exp(-torch.arange(0, WIDTH, 2) / WIDTH * math.log(1e4))[None]
    return torch.cat([angles.sin(), angles.cos()], 1)[None]


def net() -> nn.Module:
    """Return the network with the weights that clients start from."""
    torch.manual_seed(0)
    return ClipTransformer()
