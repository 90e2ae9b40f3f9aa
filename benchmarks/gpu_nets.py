"""Nets that the GPU's measurements take, as `gpu_nets.py:NAME`: published ones, and the same kinds small."""

import torch
from torch import Tensor, nn


def r3d_18() -> nn.Module:
    """ResNet-18 in three dimensions with ten classes, on clips of 16 frames of 112x112."""
    from torchvision.models.video import r3d_18 as published

    torch.manual_seed(0)
    net = published(num_classes=10)
    net.input_shape = (3, 16, 112, 112)
    return net


def r3d_small() -> nn.Module:
    """A residual block in three dimensions on clips of 4 frames of 16x16."""
    torch.manual_seed(0)
    return _Residual()


class _Residual(nn.Module):
    input_shape = (3, 4, 16, 16)

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body = nn.Conv3d(3, 8, 3, (1, 2, 2), 1), nn.Conv3d(8, 8, 3, 1, 1)
        self.norm, self.head = nn.BatchNorm3d(8), nn.Linear(8, 10)

    def forward(self, clips: Tensor) -> Tensor:
        x = self.stem(clips).relu()
        return self.head((x + self.norm(self.body(x)).relu()).mean((2, 3, 4)))


def videomae_base() -> nn.Module:
    """VideoMAE-base of a configuration of its own: 16 frames of 112x112, random weights, ten classes."""
    return _videomae(image_size=112)


def videomae_small() -> nn.Module:
    """The same architecture with two narrow layers, on 4 frames of 32x32."""
    sizes = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}
    return _videomae(image_size=32, num_frames=4, **sizes)


def _videomae(image_size: int, num_frames: int = 16, **sizes: int) -> nn.Module:
    from transformers import VideoMAEConfig, VideoMAEForVideoClassification

    torch.manual_seed(0)
    configuration = VideoMAEConfig(
        image_size=image_size, num_frames=num_frames, num_labels=10, use_mean_pooling=True, **sizes
    )
    return _Logits(VideoMAEForVideoClassification(configuration), (num_frames, 3, image_size, image_size))


class _Logits(nn.Module):
    def __init__(self, net: nn.Module, input_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.net, self.input_shape = net, input_shape

    def forward(self, clips: Tensor) -> Tensor:
        return self.net(pixel_values=clips).logits
