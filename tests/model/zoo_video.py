"""Video classifiers that people deploy, in small: convolutional families, two-pathway and shifted nets."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CLASSES = 5


class SlowFast(nn.Module):
    """Two pathways at two frame rates with a lateral convolution (SlowFast)."""

    def __init__(self) -> None:
        super().__init__()
        self.slow = nn.Conv3d(3, 8, (1, 3, 3), padding=(0, 1, 1))
        self.fast = nn.Conv3d(3, 4, (3, 3, 3), padding=1)
        self.lateral = nn.Conv3d(4, 4, (5, 1, 1), stride=(4, 1, 1), padding=(2, 0, 0), bias=False)
        self.slow_norm, self.fast_norm = nn.BatchNorm3d(8), nn.BatchNorm3d(4)
        self.slow2, self.fast2 = nn.Conv3d(12, 10, 3, padding=1), nn.Conv3d(4, 4, 3, padding=1)
        self.head = nn.Linear(14, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        fast = torch.relu(self.fast_norm(self.fast(x)))
        slow = torch.relu(self.slow_norm(self.slow(x[:, :, ::4])))
        slow = self.slow2(torch.cat([slow, self.lateral(fast)], 1))
        return self.head(torch.cat([slow.mean((2, 3, 4)), self.fast2(fast).mean((2, 3, 4))], 1))


class TemporalShift(nn.Module):
    """A 2D net on frames whose channels are shifted in time (TSM)."""

    frames = 8

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, CLASSES)

    def shifted(self, x: Tensor) -> Tensor:
        rows, c, h, w = x.shape
        x = x.view(rows // self.frames, self.frames, c, h, w)
        fold = c // 4
        out = torch.zeros_like(x)
        out[:, :-1, :fold] = x[:, 1:, :fold]
        out[:, 1:, fold : 2 * fold] = x[:, :-1, fold : 2 * fold]
        out[:, :, 2 * fold :] = x[:, :, 2 * fold :]
        return out.view(rows, c, h, w)

    def forward(self, x: Tensor) -> Tensor:
        b, c, t, h, w = x.shape
        y = torch.relu(self.norm(self.stem(x.transpose(1, 2).reshape(b * t, c, h, w))))
        y = y + self.conv(self.shifted(y))
        return self.head(y.mean((2, 3))).view(b, t, CLASSES).mean(1)


class Inception(nn.Module):
    """An I3D block: four branches of different extent, joined."""

    def __init__(self) -> None:
        super().__init__()

        def unit(before: int, after: int, size: int) -> nn.Sequential:
            conv = nn.Conv3d(before, after, size, padding=size // 2, bias=False)
            return nn.Sequential(conv, nn.BatchNorm3d(after, eps=1e-3), nn.ReLU())

        self.stem = unit(3, 8, 3)
        self.one = unit(8, 4, 1)
        self.three = nn.Sequential(unit(8, 3, 1), unit(3, 4, 3))
        self.five = nn.Sequential(unit(8, 2, 1), unit(2, 3, 3))
        self.pooled = nn.Sequential(nn.MaxPool3d(3, 1, 1), unit(8, 3, 1))
        self.logits = nn.Conv3d(14, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool3d(self.stem(x), (1, 2, 2))
        x = torch.cat([self.one(x), self.three(x), self.five(x), self.pooled(x)], 1)
        x = F.avg_pool3d(x, (2, x.shape[3], x.shape[4]), stride=1)
        return self.logits(x).squeeze(4).squeeze(3).mean(2)


class DepthwiseSqueeze(nn.Module):
    """An X3D block: depthwise Conv3d, squeeze and excitation, swish, residual."""

    def __init__(self) -> None:
        super().__init__()
        self.stem_space = nn.Conv3d(3, 8, (1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1), bias=False)
        self.stem_time = nn.Conv3d(8, 8, (5, 1, 1), padding=(2, 0, 0), groups=8, bias=False)
        self.widen = nn.Conv3d(8, 18, 1, bias=False)
        self.norm = nn.BatchNorm3d(18)
        self.depth = nn.Conv3d(18, 18, 3, padding=1, groups=18, bias=False)
        self.down, self.up = nn.Conv3d(18, 8, 1), nn.Conv3d(8, 18, 1)
        self.narrow = nn.Conv3d(18, 8, 1, bias=False)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem_time(self.stem_space(x))
        y = self.depth(torch.relu(self.norm(self.widen(x))))
        y = y * torch.sigmoid(self.up(torch.relu(self.down(F.adaptive_avg_pool3d(y, 1)))))
        return self.head(F.adaptive_avg_pool3d(x + self.narrow(F.silu(y)), 1).flatten(1))


class NonLocal(nn.Module):
    """A non-local block: attention between all positions of a clip, by 1x1x1 convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv3d(3, 8, 3, stride=(2, 4, 4), padding=1)
        self.theta, self.phi, self.g = (nn.Conv3d(8, 4, 1) for _ in range(3))
        self.back = nn.Conv3d(4, 8, 1)
        self.norm = nn.BatchNorm3d(8)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        b, _, t, h, w = x.shape
        query, key, value = (layer(x).view(b, 4, -1) for layer in (self.theta, self.phi, self.g))
        weights = torch.softmax(query.transpose(1, 2) @ key, -1)
        y = (weights @ value.transpose(1, 2)).transpose(1, 2).reshape(b, 4, t, h, w)
        return self.head((x + self.norm(self.back(y))).mean((2, 3, 4)))


class Factorised(nn.Module):
    """A (2+1)D residual block: a spatial, then a temporal convolution."""

    def __init__(self) -> None:
        super().__init__()

        def unit(before: int, after: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv3d(before, 7, (1, 3, 3), padding=(0, 1, 1), bias=False),
                nn.BatchNorm3d(7),
                nn.ReLU(),
                nn.Conv3d(7, after, (3, 1, 1), padding=(1, 0, 0), bias=False),
            )

        self.stem, self.block = unit(3, 6), unit(6, 6)
        self.norm = nn.BatchNorm3d(6)
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        x = torch.relu(self.norm(self.block(x)) + x)
        return self.head(F.adaptive_avg_pool3d(x, 1).flatten(1))


class UpDown(nn.Module):
    """ConvTranspose3d and trilinear resizing, as nets that predict from upsampled features have them."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv3d(3, 6, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose3d(6, 4, 2, stride=2)
        self.mix = nn.Conv3d(10, 6, 3, padding=1)
        self.slope = nn.PReLU(6)
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        low = F.elu(self.down(x))
        wide = F.interpolate(low, scale_factor=2, mode="trilinear", align_corners=False)
        y = self.slope(self.mix(torch.cat([self.up(low), wide], 1)))
        return self.head(y.mean((2, 3, 4)))


class Shuffled(nn.Module):
    """PixelShuffle and InstanceNorm on frames."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = nn.InstanceNorm2d(8, affine=True)
        self.shuffle = nn.PixelShuffle(2)
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        b, c, t, h, w = x.shape
        y = F.leaky_relu(self.norm(self.stem(x.transpose(1, 2).reshape(-1, c, h, w))))
        y = self.conv(self.shuffle(y)).amax((2, 3))
        return self.head(y).view(b, t, -1).mean(1)


class InstanceNormed(nn.Module):
    """InstanceNorm3d with and without weights, replicated padding, a strided max pool."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv3d(3, 6, 3, padding=1, padding_mode="replicate")
        self.norm = nn.InstanceNorm3d(6, affine=True)
        self.conv = nn.Conv3d(6, 8, 3, padding=1)
        self.plain = nn.InstanceNorm3d(8)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool3d(F.softplus(self.norm(self.stem(x))), 2)
        return self.head(F.mish(self.plain(self.conv(x))).mean((2, 3, 4)))


class GroupedSqueeze(nn.Module):
    """Squeeze and excitation over a GroupNorm net, with a residual branch."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv3d(3, 8, 3, stride=2, padding=1, bias=False)
        self.norm1, self.norm2 = nn.GroupNorm(2, 8), nn.GroupNorm(8, 8)
        self.conv = nn.Conv3d(8, 8, 3, padding=1, bias=False)
        self.down, self.up = nn.Linear(8, 4), nn.Linear(4, 8)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm1(self.stem(x)))
        y = self.norm2(self.conv(x))
        scale = torch.sigmoid(self.up(F.silu(self.down(y.mean((2, 3, 4))))))
        return self.head(torch.relu(x + y * scale[:, :, None, None, None]).mean((2, 3, 4)))


class MobileFrames(nn.Module):
    """torchvision's MobileNetV3 on every frame, averaged over time."""

    input_shape = (3, 2, 32, 32)

    def __init__(self) -> None:
        super().__init__()
        from torchvision.models import mobilenet_v3_small

        self.frame = mobilenet_v3_small(weights=None, num_classes=CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        b, c, t, h, w = x.shape
        return self.frame(x.transpose(1, 2).reshape(b * t, c, h, w)).view(b, t, CLASSES).mean(1)


NETS = {
    "slowfast": SlowFast,
    "tsm": TemporalShift,
    "i3d": Inception,
    "x3d": DepthwiseSqueeze,
    "non-local": NonLocal,
    "2plus1d": Factorised,
    "transposed-resize": UpDown,
    "pixel-shuffle": Shuffled,
    "instance-norm": InstanceNormed,
    "se-groupnorm": GroupedSqueeze,
    "mobilenet-frames": MobileFrames,
}
