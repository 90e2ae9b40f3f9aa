"""Small video nets of every kind the importer must handle, and the ways in which PyTorch exports them.

Weights are random throughout (also norms, which start as ones and zeros), so that exporters merge nothing and every
parameter can be recognised by its value.
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
import zoo_sequence
import zoo_torchvision
import zoo_video
from torch import Tensor, nn

CLASSES = 5
SHAPE = (3, 8, 16, 16)


class Conv3dNet(nn.Module):
    """Three Conv3d layers and a head on all their features."""

    def __init__(self, activation: Callable[[], nn.Module] = nn.ReLU, widths: tuple[int, int, int] = (4, 6, 8)) -> None:
        super().__init__()
        a, b, c = widths
        self.stem = nn.Conv3d(3, a, 3, padding=1)
        self.middle = nn.Conv3d(a, b, 3, stride=2, padding=1)
        self.top = nn.Conv3d(b, c, 3, stride=2, padding=1)
        self.act = activation()
        self.head = nn.LazyLinear(CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        for layer in (self.stem, self.middle, self.top):
            x = self.act(layer(x))
        return self.head(x.flatten(1))


class PooledNet(nn.Module):
    """Conv3d with batch normalisation and a head on pooled features; convolutions without bias."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv3d(3, 6, 3, padding=1, bias=False),
            nn.BatchNorm3d(6),
            nn.ReLU(),
            nn.MaxPool3d(2),
            nn.Conv3d(6, 8, 3, padding=1, bias=False),
            nn.BatchNorm3d(8),
            nn.ReLU(),
        )
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.drop(self.body(x).mean((2, 3, 4))))


class GroupNormNet(nn.Module):
    """Conv3d with GroupNorm and a residual connection."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv3d(3, 8, 3, stride=2, padding=1)
        self.norm = nn.GroupNorm(4, 8)
        self.side = nn.Conv3d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.nn.functional.gelu(self.norm(self.stem(x)))
        return self.head((x + self.side(x)).mean((2, 3, 4)))


class Attention(nn.Module):
    """Attention written with scaled_dot_product_attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        b, n, d = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        y = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.proj(y.transpose(1, 2).reshape(b, n, d))


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.n1, self.attn = nn.LayerNorm(width), Attention(width, 2)
        self.n2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.n1(x))
        return x + self.mlp(self.n2(x))


class ViViT(nn.Module):
    """A video transformer: tubelets by Conv3d, a learned position embedding, optionally a class token."""

    def __init__(self, class_token: bool = False, width: int = 32, depth: int = 2) -> None:
        super().__init__()
        self.patch = nn.Conv3d(3, width, (2, 8, 8), (2, 8, 8))
        tokens = 16
        self.cls = nn.Parameter(torch.zeros(1, 1, width)) if class_token else None
        self.pos = nn.Parameter(torch.zeros(1, tokens + class_token, width))
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        if self.cls is not None:
            x = torch.cat([self.cls.expand(x.shape[0], -1, -1), x], 1)
        x = x + self.pos
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return self.head(x[:, 0] if self.cls is not None else x.mean(1))


class Encoder(nn.Module):
    """`nn.TransformerEncoderLayer` (and with it `nn.MultiheadAttention`) over frames."""

    def __init__(self, batch_first: bool = True) -> None:
        super().__init__()
        self.batch_first = batch_first
        self.embed = nn.Linear(3 * 16 * 16, 16)
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=batch_first)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x.transpose(1, 2).flatten(2))
        if not self.batch_first:
            return self.head(self.layer(x.transpose(0, 1)).mean(0))
        return self.head(self.layer(x).mean(1))


class FrameRecurrent(nn.Module):
    """A Conv2d on every frame, then a recurrent network over time."""

    def __init__(self, cell: type[nn.RNNBase] = nn.GRU, **options: bool) -> None:
        super().__init__()
        self.frame = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.recurrent = cell(4 * 16, 6, batch_first=True, **options)
        self.head = nn.Linear(6 * (2 if options.get("bidirectional") else 1), CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        b, c, t, h, w = x.shape
        y = torch.tanh(self.frame(x.transpose(1, 2).reshape(b * t, c, h, w)))
        y = nn.functional.avg_pool2d(y, 2).reshape(b, t, -1)
        return self.head(self.recurrent(y)[0][:, -1])


class SqueezeExcite(nn.Module):
    """Squeeze and excitation with hard activations, as MobileNetV3 has them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv3d(3, 8, 3, stride=2, padding=1)
        self.down, self.up = nn.Conv3d(8, 4, 1), nn.Conv3d(4, 8, 1)
        self.act, self.gate = nn.Hardswish(), nn.Hardsigmoid()
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.stem(x))
        scale = self.gate(self.up(torch.relu(self.down(x.mean((2, 3, 4), keepdim=True)))))
        return self.head((x * scale).mean((2, 3, 4)))


def resnet() -> nn.Module:
    """Return torchvision's r3d_18 without weights."""
    from torchvision.models.video import r3d_18

    return r3d_18(weights=None, num_classes=CLASSES)


NETS: dict[str, Callable[[], nn.Module]] = {
    "conv3d": Conv3dNet,
    "conv3d-gelu": lambda: Conv3dNet(nn.GELU),
    "pooled": PooledNet,
    "groupnorm": GroupNormNet,
    "vivit": ViViT,
    "vivit-cls": lambda: ViViT(class_token=True),
    "encoder": Encoder,
    "encoder-time-first": lambda: Encoder(batch_first=False),
    "gru": FrameRecurrent,
    "gru-both": lambda: FrameRecurrent(bidirectional=True),
    "lstm": lambda: FrameRecurrent(nn.LSTM),
    "squeeze-excite": SqueezeExcite,
}
# Nets of the families that deployers use; `test_model_zoo` compares each at every exporter.
FAMILIES: dict[str, Callable[[], nn.Module]] = {**zoo_video.NETS, **zoo_sequence.NETS, **zoo_torchvision.NETS}
LARGE: dict[str, Callable[[], nn.Module]] = zoo_torchvision.LARGE
EXPORTERS = ("dynamo", "dynamo-plain", "legacy", "legacy-training")


def randomised(net: nn.Module, seed: int = 0) -> nn.Module:
    """Return the net, evaluating, with every parameter and running statistic random and at a useful scale."""
    shape = getattr(net, "input_shape", SHAPE)
    net.eval()
    with torch.no_grad():
        net(torch.zeros(1, *shape))  # gives lazy layers their shape
    generator = torch.Generator().manual_seed(seed)
    buffers = dict(net.named_buffers())
    with torch.no_grad():
        for name, value in (*net.named_parameters(), *net.named_buffers()):
            noise = torch.randn(value.shape, generator=generator) if value.is_floating_point() else value
            if name.endswith("running_var"):
                value.copy_(0.5 + noise.abs())
            elif not value.is_floating_point() or (name in buffers and not name.endswith("running_mean")):
                continue
            elif value.dim() > 1:
                value.copy_(noise * (1.5 / max(value[0].numel(), 1)) ** 0.5)
            elif name.endswith("weight"):
                value.copy_(1 + 0.2 * noise)
            else:
                value.copy_(0.2 * noise)
    return net


def build(name: str, seed: int = 0) -> nn.Module:
    """Return a net of the zoo with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return randomised({**NETS, **FAMILIES, **LARGE}[name](), seed)


def shape_of(net: nn.Module) -> tuple[int, ...]:
    """Return the shape of one clip that a net of the zoo reads, without batch."""
    return getattr(net, "input_shape", SHAPE)


def export(
    net: nn.Module,
    path: Path,
    exporter: str = "dynamo",
    shape: tuple[int, ...] = SHAPE,
    dynamic: bool = False,
    opset: int | None = None,
) -> Path:
    """Write a net as ONNX, in silence, in one of the ways of EXPORTERS; without opset at the exporter's own."""
    clip = torch.rand(1, *shape, generator=torch.Generator().manual_seed(1))
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        if exporter.startswith("dynamo"):
            options = {"dynamic_shapes": ({0: torch.export.Dim("batch")},)} if dynamic else {}
            clip = clip.expand(2, *shape).clone() if dynamic else clip
            torch.onnx.export(
                net, (clip,), str(path), dynamo=True, optimize=exporter == "dynamo", verbose=False,
                external_data=False, opset_version=opset, **options,
            )  # fmt: skip
        else:
            options = {"input_names": ["clip"], "dynamic_axes": {"clip": {0: "batch"}}} if dynamic else {}
            if exporter == "legacy-training":
                options |= {"training": torch.onnx.TrainingMode.TRAINING, "do_constant_folding": False}
            torch.onnx.export(net, (clip,), str(path), dynamo=False, opset_version=opset, **options)
    net.eval()
    return path
