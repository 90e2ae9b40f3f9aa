"""Nets whose updates are known to give clips away, small and for clips of 8x16x16; scans load them by name.

Every net takes (clip, channel, frame, height, width), with fresh seeded weights unless its name says trained.
"""

from collections.abc import Callable
from math import prod

import torch
from torch import Tensor, nn

FRAMES, SIDE = 8, 16
CLIP = (3, FRAMES, SIDE, SIDE)
VALUES = prod(CLIP)
CENTRE, SPREAD = 0.45, 0.225


class Leaking(nn.Module):
    """A net with the shape of its clips beside it, and what is done to pixels before its first layer."""

    layout = "NCTHW"

    def __init__(
        self, body: nn.Module, before: Callable[[Tensor], Tensor] | None = None, shape: tuple[int, ...] = CLIP
    ) -> None:
        super().__init__()
        self.body, self.before, self.input_shape = body, before, shape

    def forward(self, clips: Tensor) -> Tensor:
        return self.body(clips if self.before is None else self.before(clips))


def _made(
    make: Callable[[], nn.Module],
    before: Callable[[Tensor], Tensor] | None = None,
    shape: tuple[int, ...] = CLIP,
) -> Leaking:
    torch.manual_seed(0)
    return Leaking(make(), before, shape)


def _mlp(classes: int = 10, width: int = 32, *, act: type[nn.Module] = nn.ReLU, values: int = VALUES) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(values, width), act(), nn.Linear(width, classes))


def _convolutions(
    classes: int = 10, *, act: type[nn.Module] = nn.GELU, flatten: bool = True, norm: str = "", bias: bool = True
) -> nn.Module:
    layers: list[nn.Module] = []
    width = 3
    for wider, stride in ((12, (1, 2, 2)), (24, 2)):
        layers.append(nn.Conv3d(width, wider, 3, stride, 1, bias=bias))
        if norm:
            layers.append(nn.BatchNorm3d(wider) if norm == "batch" else nn.GroupNorm(4, wider))
        layers.append(act())
        width = wider
    head = [nn.Flatten(), nn.Linear(24 * 4 * 4 * 4, classes, bias=bias)]
    pooled = [nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(24, classes, bias=bias)]
    return nn.Sequential(*layers, *(head if flatten else pooled))


class Tokens(nn.Module):
    """Tubelets of 2x4x4 with positions, one block, and a head on the mean of the tokens."""

    def __init__(self, classes: int = 10, width: int = 112, *, fixed: bool = False) -> None:
        super().__init__()
        self.embed = nn.Conv3d(3, width, (2, 4, 4), (2, 4, 4))
        place = torch.arange(64)[:, None] / 10000 ** (torch.arange(0, width, 2) / width)
        table = torch.cat([place.sin(), place.cos()], dim=1)[None]
        if fixed:
            self.register_buffer("position", table)
        else:
            self.position = nn.Parameter(0.02 * torch.randn(1, 64, width))
        self.block = nn.TransformerEncoderLayer(width, 4, 2 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        self.head = nn.Linear(width, classes)

    def forward(self, clips: Tensor) -> Tensor:
        x = self.embed(clips).flatten(2).transpose(1, 2) + self.position
        return self.head(self.block(x).mean(1))


class ClassToken(nn.Module):
    """The same tokens behind a class token, which alone goes to the head."""

    def __init__(self, classes: int = 10, width: int = 112) -> None:
        super().__init__()
        self.embed = nn.Conv3d(3, width, (2, 4, 4), (2, 4, 4))
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.position = nn.Parameter(0.02 * torch.randn(1, 65, width))
        self.block = nn.TransformerEncoderLayer(width, 4, 2 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        self.head = nn.Linear(width, classes)

    def forward(self, clips: Tensor) -> Tensor:
        x = self.embed(clips).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.position
        return self.head(self.block(x)[:, 0])


class Frames(nn.Module):
    """A small net on every frame, and what joins the frames: a GRU, an LSTM, or the mean."""

    def __init__(self, joined: str, classes: int = 10, *, cut: str = "") -> None:
        super().__init__()
        self.cut = cut
        self.frames = nn.Sequential(nn.Conv2d(3, 12, 3, 2, 1), nn.GELU(), nn.Conv2d(12, 16, 3, 2, 1), nn.Flatten())
        kinds = {"gru": nn.GRU, "lstm": nn.LSTM}
        self.recurrent = kinds[joined](256, 32, batch_first=True) if joined in kinds else None
        self.head = nn.Linear(256 if self.recurrent is None else 32, classes)

    def forward(self, clips: Tensor) -> Tensor:
        x = clips.transpose(1, 2).flatten(0, 1)
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.cut != "no_grad"):
            features = self.frames(x).unflatten(0, (len(clips), -1))
        if self.cut == "detach":
            features = features.detach()
        if self.recurrent is None:
            return self.head(features).mean(1)
        return self.head(self.recurrent(features)[0][:, -1])


class Residual(nn.Module):
    """A stem, two basic blocks with BatchNorm, an average over positions and a head."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv3d(3, 24, 3, (1, 2, 2), 1, bias=False), nn.BatchNorm3d(24), nn.ReLU())
        self.one, self.two = _block(24, 40), _block(40, 48)
        self.short = nn.ModuleList((nn.Conv3d(24, 40, 1, 2, bias=False), nn.Conv3d(40, 48, 1, 2, bias=False)))
        self.head = nn.Linear(48, classes)

    def forward(self, clips: Tensor) -> Tensor:
        x = self.stem(clips)
        for block, short in zip((self.one, self.two), self.short, strict=True):
            x = (block(x) + short(x)).relu()
        return self.head(x.mean((2, 3, 4)))


def _block(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(inputs, outputs, 3, 2, 1, bias=False), nn.BatchNorm3d(outputs), nn.ReLU(),
        nn.Conv3d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm3d(outputs),
    )  # fmt: skip


def _depthwise(classes: int = 10) -> nn.Module:
    """Separable convolutions: each channel by itself, then all of them at each position."""
    return nn.Sequential(
        nn.Conv3d(3, 24, 1), nn.SiLU(), nn.Conv3d(24, 24, 3, (1, 2, 2), 1, groups=24), nn.Conv3d(24, 24, 1), nn.SiLU(),
        nn.Flatten(), nn.Linear(24 * FRAMES * 8 * 8, classes),
    )  # fmt: skip


def _trained(net: Leaking, steps: int = 60) -> Leaking:
    """Train on moving random patterns, a class for each direction, until weights are no longer fresh."""
    random = torch.Generator().manual_seed(1)
    chosen = torch.optim.Adam(net.parameters(), 1e-3)
    for _ in range(steps):
        labels = torch.randint(0, 8, (16,), generator=random)
        first = torch.nn.functional.interpolate(torch.rand(16, 3, 6, 6, generator=random), (SIDE, SIDE), mode="bicubic")
        moved = [
            torch.stack([pattern.roll((k * (y % 3 - 1), k * (y // 3 - 1)), (1, 2)) for k in range(FRAMES)], 1)
            for pattern, y in zip(first, labels.tolist(), strict=True)
        ]
        chosen.zero_grad()
        torch.nn.functional.cross_entropy(net(torch.stack(moved).clamp(0, 1)), labels).backward()
        chosen.step()
    return net


def _centred(clips: Tensor) -> Tensor:
    return (clips - CENTRE) / SPREAD


def _wide(clips: Tensor) -> Tensor:
    return (clips - 0.5) * 20.0


def _rounded(clips: Tensor) -> Tensor:
    return torch.round(clips * 255) / 255


def _centred_blindly(clips: Tensor) -> Tensor:
    with torch.no_grad():
        return _centred(clips)


def _through_numpy(clips: Tensor) -> Tensor:
    return torch.from_numpy(clips.detach().cpu().numpy().copy()).to(clips.device)


def linear() -> Leaking:
    return _made(lambda: nn.Sequential(nn.Flatten(), nn.Linear(VALUES, 10)))


def linear_two_classes() -> Leaking:
    return _made(lambda: nn.Sequential(nn.Flatten(), nn.Linear(VALUES, 2)))


def mlp() -> Leaking:
    return _made(_mlp)


def mlp_two_classes() -> Leaking:
    return _made(lambda: _mlp(2))


def mlp_wide() -> Leaking:
    return _made(lambda: _mlp(width=300), _centred)


def mlp_trained() -> Leaking:
    return _trained(_made(_mlp))


def mlp_rounded() -> Leaking:
    return _made(_mlp, _rounded)


def mlp_rounded_two_classes() -> Leaking:
    return _made(lambda: _mlp(2), _rounded)


def flat() -> Leaking:
    return _made(_convolutions)


def flat_two_classes() -> Leaking:
    return _made(lambda: _convolutions(2))


def flat_relu() -> Leaking:
    return _made(lambda: _convolutions(act=nn.ReLU))


def flat_sigmoid() -> Leaking:
    return _made(lambda: _convolutions(act=nn.Sigmoid))


def flat_wide() -> Leaking:
    return _made(_convolutions, _wide)


def flat_centred_under_no_grad() -> Leaking:
    return _made(lambda: _convolutions(2), _centred_blindly)


def flat_trained() -> Leaking:
    return _trained(_made(_convolutions))


def flat_groupnorm() -> Leaking:
    return _made(lambda: _convolutions(norm="group"))


def flat_without_bias() -> Leaking:
    return _made(lambda: _convolutions(bias=False))


def pooled() -> Leaking:
    return _made(lambda: _convolutions(flatten=False))


def pooled_two_classes() -> Leaking:
    return _made(lambda: _convolutions(2, flatten=False))


def pooled_batchnorm() -> Leaking:
    return _made(lambda: _convolutions(flatten=False, norm="batch"))


def pooled_trained() -> Leaking:
    return _trained(_made(lambda: _convolutions(flatten=False, norm="batch")))


def tokens() -> Leaking:
    return _made(Tokens)


def tokens_two_classes() -> Leaking:
    return _made(lambda: Tokens(2))


def tokens_fixed() -> Leaking:
    return _made(lambda: Tokens(fixed=True))


def frames_gru() -> Leaking:
    return _made(lambda: Frames("gru"))


def frames_lstm_detached() -> Leaking:
    return _made(lambda: Frames("lstm", cut="detach"))


def frames_gru_no_grad() -> Leaking:
    return _made(lambda: Frames("gru", cut="no_grad"))


def frames_mean() -> Leaking:
    return _made(lambda: Frames("mean"))


def residual() -> Leaking:
    return _made(Residual)


def residual_two_classes() -> Leaking:
    return _made(lambda: Residual(2))


def mlp_tanh() -> Leaking:
    return _made(lambda: _mlp(2, act=nn.Tanh))


def mlp_silu_wide() -> Leaking:
    return _made(lambda: _mlp(act=nn.SiLU), _wide)


def mlp_through_numpy() -> Leaking:
    return _made(lambda: _mlp(2), _through_numpy)


def mlp_one_frame() -> Leaking:
    return _made(lambda: _mlp(values=3 * SIDE * SIDE), shape=(3, 1, SIDE, SIDE))


def mlp_one_channel() -> Leaking:
    return _made(lambda: _mlp(values=FRAMES * SIDE * SIDE), shape=(1, FRAMES, SIDE, SIDE))


def mlp_wide_relu() -> Leaking:
    return _made(lambda: _mlp(2, width=300), _centred)


def flat_silu() -> Leaking:
    return _made(lambda: _convolutions(act=nn.SiLU))


def flat_tanh_two_classes() -> Leaking:
    return _made(lambda: _convolutions(2, act=nn.Tanh))


def flat_trained_two_classes() -> Leaking:
    return _trained(_made(lambda: _convolutions(8, act=nn.Tanh)))


def flat_through_numpy() -> Leaking:
    return _made(_convolutions, _through_numpy)


def flat_batchnorm() -> Leaking:
    return _made(lambda: _convolutions(2, norm="batch"))


def depthwise() -> Leaking:
    return _made(_depthwise)


def tokens_class() -> Leaking:
    return _made(ClassToken)


def tokens_class_two_classes() -> Leaking:
    return _made(lambda: ClassToken(2))


def frames_gru_two_classes() -> Leaking:
    return _made(lambda: Frames("gru", 2))
