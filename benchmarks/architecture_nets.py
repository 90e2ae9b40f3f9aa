"""The nets of the catalogue of architectures: small video classifiers of every family, for clips of 8x16x16.

Every net takes (clip, channel, frame, height, width), has ten classes and weights that the caller's seed draws.
"""

from collections.abc import Callable
from math import prod

import torch
from depth_nets import Bottleneck, X3DBlock
from suite import _Residual
from torch import Tensor, nn
from torch.nn import functional as F

CLIP, CLASSES = (3, 8, 16, 16), 10
_NORMS: dict[str, Callable[[int], nn.Module]] = {
    "none": lambda width: nn.Identity(),
    "batch": nn.BatchNorm3d,
    "group": lambda width: nn.GroupNorm(4, width),
}


def _head(width: int, cells: int, *, flatten: bool) -> list[nn.Module]:
    if flatten:
        return [nn.Flatten(), nn.Linear(width * cells, CLASSES)]
    return [nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(width, CLASSES)]


def conv3d(
    activation: Callable[[], nn.Module] = nn.ReLU,
    *,
    flatten: bool = False,
    norm: str = "none",
    widths: tuple[int, ...] = (16, 32, 64),
    strides: tuple[tuple[int, int, int], ...] = ((1, 2, 2), (2, 2, 2), (2, 1, 1)),
) -> nn.Module:
    """Convolutions in three dimensions, and a head on their average or on all positions."""
    layers: list[nn.Module] = []
    width = 3
    for wider, stride in zip(widths, strides, strict=True):
        layers += [nn.Conv3d(width, wider, 3, stride, 1), _NORMS[norm](wider), activation()]
        width = wider
    cells = prod(CLIP[1:]) // prod(prod(s) for s in strides)
    return nn.Sequential(*layers, *_head(width, cells, flatten=flatten))


def max_pooled() -> nn.Module:
    """Convolutions of stride 1 with maxima between them, and two Linear layers, as C3D has it."""
    layers: list[nn.Module] = []
    for width, wider, pool in ((3, 16, (1, 2, 2)), (16, 32, (2, 2, 2)), (32, 64, (2, 2, 2))):
        layers += [nn.Conv3d(width, wider, 3, 1, 1), nn.ReLU(), nn.MaxPool3d(pool)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 8, 64), nn.ReLU(), nn.Linear(64, CLASSES))


def separable() -> nn.Module:
    """Each channel by itself, then all of them at each position."""
    layers: list[nn.Module] = [nn.Conv3d(3, 16, 3, (1, 2, 2), 1), nn.BatchNorm3d(16), nn.ReLU()]
    for width, wider, stride in ((16, 32, 2), (32, 64, 1)):
        layers += [nn.Conv3d(width, width, 3, stride, 1, groups=width), nn.BatchNorm3d(width), nn.ReLU()]
        layers += [nn.Conv3d(width, wider, 1), nn.BatchNorm3d(wider), nn.ReLU()]
    return nn.Sequential(*layers, *_head(64, 0, flatten=False))


class _Block(nn.Module):
    """Two convolutions and a shortcut; `factorised` splits each into space and time."""

    def __init__(self, width: int, wider: int, stride: int, *, factorised: bool) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            _convolution(width, wider, stride, factorised=factorised),
            nn.BatchNorm3d(wider),
            nn.ReLU(),
            _convolution(wider, wider, 1, factorised=factorised),
            nn.BatchNorm3d(wider),
        )
        same = stride == 1 and width == wider
        self.short = nn.Identity() if same else nn.Conv3d(width, wider, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.branch(x) + self.short(x))


def _convolution(width: int, wider: int, stride: int, *, factorised: bool) -> nn.Module:
    if not factorised:
        return nn.Conv3d(width, wider, 3, stride, 1, bias=False)
    return nn.Sequential(
        nn.Conv3d(width, wider, (1, 3, 3), (1, stride, stride), (0, 1, 1), bias=False),
        nn.BatchNorm3d(wider),
        nn.ReLU(),
        nn.Conv3d(wider, wider, (3, 1, 1), (stride, 1, 1), (1, 0, 0), bias=False),
    )


def residual(widths: tuple[int, ...] = (16, 32, 64), *, factorised: bool = False) -> nn.Module:
    """A stem, residual blocks that halve the clip, an average: r3d_18 and r2plus1d_18 in small."""
    stem = [nn.Conv3d(3, widths[0], 3, (1, 2, 2), 1, bias=False), nn.BatchNorm3d(widths[0]), nn.ReLU()]
    blocks = [
        _Block(a, b, 2 if a != b else 1, factorised=factorised)
        for a, b in zip((widths[0], *widths[:-1]), widths, strict=True)
    ]
    return nn.Sequential(*stem, *blocks, *_head(widths[-1], 0, flatten=False))


def bottleneck() -> nn.Module:
    """Blocks of three convolutions, the first over time."""
    stem = [nn.Conv3d(3, 16, 3, (1, 2, 2), 1, bias=False), nn.BatchNorm3d(16), nn.ReLU()]
    return nn.Sequential(
        *stem, Bottleneck(16, 16, 32, 3, 1), Bottleneck(32, 32, 64, 3, 2), *_head(64, 0, flatten=False)
    )


def x3d_like() -> nn.Module:
    """Depthwise blocks with gates and swish."""
    stem = [nn.Conv3d(3, 24, (1, 3, 3), (1, 2, 2), (0, 1, 1), bias=False), nn.BatchNorm3d(24), nn.ReLU()]
    return nn.Sequential(*stem, X3DBlock(24, 48, 2), X3DBlock(48, 48, 1), *_head(48, 0, flatten=False))


class MoViNetLike(nn.Module):
    """Causal separable convolutions in time with gates, and hard swish."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv3d(3, 16, (1, 3, 3), (1, 2, 2), (0, 1, 1)), nn.Hardswish())
        self.wide, self.time = nn.Conv3d(16, 48, 1), nn.Conv3d(48, 48, (3, 1, 1), groups=48)
        self.space = nn.Conv3d(48, 48, (1, 3, 3), (1, 2, 2), (0, 1, 1), groups=48)
        self.gate, self.narrow = nn.Conv3d(48, 48, 1), nn.Conv3d(48, 48, 1)
        self.head = nn.Sequential(nn.Linear(48, 64), nn.Hardswish(), nn.Linear(64, CLASSES))

    def forward(self, clips: Tensor) -> Tensor:
        x = F.hardswish(self.wide(self.stem(clips)))
        x = F.hardswish(self.space(self.time(F.pad(x, (0, 0, 0, 0, 2, 0)))))
        x = self.narrow(x * torch.sigmoid(self.gate(x.mean((2, 3, 4), keepdim=True))))
        return self.head(x.mean((2, 3, 4)))


class SlowFastLike(nn.Module):
    """A wide pathway on every fourth frame, a narrow one on all, and a lateral connection."""

    def __init__(self) -> None:
        super().__init__()
        self.slow = nn.Sequential(nn.Conv3d(3, 32, (1, 3, 3), (1, 2, 2), (0, 1, 1)), nn.BatchNorm3d(32), nn.ReLU())
        self.fast = nn.Sequential(nn.Conv3d(3, 8, 3, (1, 2, 2), 1), nn.BatchNorm3d(8), nn.ReLU())
        self.lateral = nn.Conv3d(8, 16, (4, 1, 1), (4, 1, 1))
        self.fused = nn.Sequential(nn.Conv3d(48, 64, 3, (1, 2, 2), 1), nn.BatchNorm3d(64), nn.ReLU())
        self.head = nn.Linear(72, CLASSES)

    def forward(self, clips: Tensor) -> Tensor:
        slow, fast = self.slow(clips[:, :, ::4]), self.fast(clips)
        both = self.fused(torch.cat([slow, self.lateral(fast)], 1))
        return self.head(torch.cat([both.mean((2, 3, 4)), fast.mean((2, 3, 4))], 1))


class Frames(nn.Module):
    """A net on every frame, and what joins the frames: their mean, all of them in a row, a GRU or an LSTM."""

    def __init__(self, joined: str, *, blocks: bool = False) -> None:
        super().__init__()
        if blocks:
            body: list[nn.Module] = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
            self.net = nn.Sequential(*body, _Residual(16, 16, 1), _Residual(16, 32, 2), _Residual(32, 64, 2))
        else:
            self.net = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU())
        self.joined, self.blocks = joined, blocks
        width = 64 if blocks else 32 if joined == "mean" else 32 * 16
        kinds = {"gru": nn.GRU, "lstm": nn.LSTM}
        self.recurrent = kinds[joined](width, 32, batch_first=True) if joined in kinds else None
        self.head = nn.Linear({"mean": width, "row": width * 8}.get(joined, 32), CLASSES)

    def forward(self, clips: Tensor) -> Tensor:
        x = self.net(clips.transpose(1, 2).flatten(0, 1))
        x = x.mean((2, 3)) if self.blocks or self.joined == "mean" else x.flatten(1)
        x = x.unflatten(0, (len(clips), -1))
        if self.recurrent is not None:
            return self.head(self.recurrent(x)[0][:, -1])
        return self.head(x.mean(1) if self.joined == "mean" else x.flatten(1))


class TemporalShift(nn.Module):
    """Convolutions on frames, where an eighth of the channels moves a frame on and another one back (TSM)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.next = nn.Conv2d(3, 32, 3, 2, 1), nn.Conv2d(32, 64, 3, 2, 1)
        self.norms = nn.ModuleList([nn.BatchNorm2d(32), nn.BatchNorm2d(64)])
        self.head = nn.Linear(64, CLASSES)

    def forward(self, clips: Tensor) -> Tensor:
        x = F.relu(self.norms[0](self.stem(clips.transpose(1, 2).flatten(0, 1)))).unflatten(0, (len(clips), -1))
        on, back, rest = x[:, :, :4], x[:, :, 4:8], x[:, :, 8:]
        on, back = torch.cat([on[:, :1] * 0, on[:, :-1]], 1), torch.cat([back[:, 1:], back[:, :1] * 0], 1)
        x = F.relu(self.norms[1](self.next(torch.cat([on, back, rest], 2).flatten(0, 1))))
        return self.head(x.mean((2, 3)).unflatten(0, (len(clips), -1)).mean(1))


class ConvLstm(nn.Module):
    """A recurrent convolution over frames, and a head on the average of its last state."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.frame, self.state = nn.Conv2d(3, 4 * width, 3, 2, 1), nn.Conv2d(width, 4 * width, 3, 1, 1, bias=False)
        self.head = nn.Linear(width, CLASSES)
        self.width = width

    def forward(self, clips: Tensor) -> Tensor:
        h = c = clips.new_zeros(len(clips), self.width, 8, 8)
        for frame in clips.unbind(2):
            i, f, o, g = (self.frame(frame) + self.state(h)).chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
        return self.head(h.mean((2, 3)))


class ViViT(nn.Module):
    """Tubelets, positions (learned, fixed, of space and of time apart, or none), blocks, a mean or a class token."""

    def __init__(
        self, positions: str, *, token: bool = False, patch: tuple[int, int, int] = (2, 8, 8), width: int = 96,
        depth: int = 1, norm: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.embed = nn.Conv3d(3, width, patch, patch)
        grid = tuple(n // p for n, p in zip(CLIP[1:], patch, strict=True))
        count = prod(grid)
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, width)) if token else None
        self.between = nn.LayerNorm(width) if norm else nn.Identity()
        self.positions = self.time = None
        if positions == "learned":
            self.positions = nn.Parameter(0.02 * torch.randn(1, count, width))
        elif positions == "apart":
            self.positions = nn.Parameter(0.02 * torch.randn(1, 1, count // grid[0], width))
            self.time = nn.Parameter(0.02 * torch.randn(1, grid[0], 1, width))
        elif positions == "fixed":
            angle = torch.arange(count)[:, None] / 10000 ** (torch.arange(0, width, 2) / width)
            self.register_buffer("table", torch.cat([angle.sin(), angle.cos()], 1)[None])
        self.fixed = positions == "fixed"
        self.blocks = nn.Sequential(
            *(
                nn.TransformerEncoderLayer(width, 4, 2 * width, 0.0, "gelu", batch_first=True, norm_first=True)
                for _ in range(depth)
            )
        )
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, CLASSES))

    def forward(self, clips: Tensor) -> Tensor:
        x = self.between(self.embed(clips).flatten(2).transpose(1, 2))
        if self.fixed:
            x = x + self.table
        elif self.time is not None:
            x = (x.unflatten(1, (self.time.shape[1], -1)) + self.positions + self.time).flatten(1, 2)
        elif self.positions is not None:
            x = x + self.positions
        if self.token is None:
            return self.head(self.blocks(x).mean(1))
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1)
        return self.head(self.blocks(x)[:, 0])


class Mixer(nn.Module):
    """Linear layers over tokens and over features in turn."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.embed = nn.Conv3d(3, width, (2, 8, 8), (2, 8, 8))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.tokens = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))
        self.features = nn.Sequential(nn.Linear(width, 128), nn.GELU(), nn.Linear(128, width))
        self.head = nn.Linear(width, CLASSES)

    def forward(self, clips: Tensor) -> Tensor:
        x = self.embed(clips).flatten(2).transpose(1, 2)
        x = x + self.tokens(self.norms[0](x).transpose(1, 2)).transpose(1, 2)
        return self.head((x + self.features(self.norms[1](x))).mean(1))


def mlp(width: int) -> nn.Module:
    """One hidden layer on all pixels, or none."""
    if not width:
        return nn.Sequential(nn.Flatten(), nn.Linear(prod(CLIP), CLASSES))
    return nn.Sequential(nn.Flatten(), nn.Linear(prod(CLIP), width), nn.ReLU(), nn.Linear(width, CLASSES))


# By family, in the order of the table.
NETS: dict[str, dict[str, Callable[[], nn.Module]]] = {
    "convolutions, head on all positions": {
        "conv3d-flatten-relu": lambda: conv3d(flatten=True),
        "conv3d-flatten-gelu": lambda: conv3d(nn.GELU, flatten=True),
        "conv3d-flatten-batchnorm": lambda: conv3d(flatten=True, norm="batch"),
        "conv3d-flatten-groupnorm": lambda: conv3d(flatten=True, norm="group"),
        "c3d-like": max_pooled,
    },
    "convolutions, average before the head": {
        "conv3d-pooled-relu": conv3d,
        "conv3d-pooled-gelu": lambda: conv3d(nn.GELU),
        "conv3d-pooled-batchnorm": lambda: conv3d(norm="batch"),
        "conv3d-pooled-groupnorm": lambda: conv3d(norm="group"),
        "conv3d-pooled-narrow": lambda: conv3d(widths=(4, 8, 16)),
        "conv3d-pooled-wide": lambda: conv3d(widths=(32, 64, 128)),
        "conv3d-pooled-stride-4": lambda: conv3d(strides=((2, 4, 4), (2, 2, 2), (1, 1, 1))),
        "separable": separable,
    },
    "residual": {
        "residual-3d": residual,
        "residual-3d-wide": lambda: residual((32, 64, 128)),
        "residual-factorised": lambda: residual(factorised=True),
        "bottleneck": bottleneck,
        "x3d-like": x3d_like,
        "movinet-like": MoViNetLike,
        "slowfast-like": SlowFastLike,
    },
    "frame by frame": {
        "frames-mean": lambda: Frames("mean"),
        "frames-row": lambda: Frames("row"),
        "frames-gru": lambda: Frames("gru"),
        "frames-lstm": lambda: Frames("lstm"),
        "frame-resnet": lambda: Frames("mean", blocks=True),
        "frame-resnet-gru": lambda: Frames("gru", blocks=True),
        "temporal-shift": TemporalShift,
        "conv-lstm": ConvLstm,
    },
    "tokens": {
        "vivit-learned": lambda: ViViT("learned"),
        "vivit-learned-token": lambda: ViViT("learned", token=True),
        "vivit-learned-two-blocks": lambda: ViViT("learned", depth=2),
        "vivit-norm-first": lambda: ViViT("learned", norm=True),
        "vivit-small-patches": lambda: ViViT("learned", patch=(2, 4, 4)),
        "vivit-apart": lambda: ViViT("apart"),
        "vivit-fixed": lambda: ViViT("fixed"),
        "vivit-none": lambda: ViViT("none"),
        "mixer": Mixer,
    },
    "Linear on pixels": {"linear": lambda: mlp(0), "mlp": lambda: mlp(32)},
}
