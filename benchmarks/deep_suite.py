"""Nets of published size on which attacks are compared: ResNet-18 in three dimensions, and in two over frames.

Both take (clip, channel, frame, height, width), have ten classes and fresh seeded weights, and their BatchNorm holds
the statistics of shipped clips: with those of a fresh layer, values grow from block to block as in no net that is used.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torchvision.models import resnet18
from torchvision.models.video import r3d_18

from auditor.probe import shipped_probes
from auditor.records import InputSpec

_SPEC = InputSpec(frames=8, channels=3, height=32, width=32, layout="NCTHW")


class OverFrames(nn.Module):
    """A net for images on every frame, and the mean of the frames' logits."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, clips: Tensor) -> Tensor:
        return self.net(clips.transpose(1, 2).flatten(0, 1)).unflatten(0, (len(clips), -1)).mean(1)


def with_statistics(net: nn.Module, spec: InputSpec = _SPEC, clips: int = 4) -> nn.Module:
    """Return the net in eval mode, its BatchNorm holding the statistics of shipped clips."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            module.momentum = None
    with torch.no_grad():
        net.train()(torch.stack([p.clip for p in shipped_probes(spec)[:clips]]).transpose(1, 2))
    return net.eval()


def _r3d_18() -> nn.Module:
    torch.manual_seed(0)
    return with_statistics(r3d_18(num_classes=10))


def _frame_resnet_18() -> nn.Module:
    torch.manual_seed(0)
    return with_statistics(OverFrames(resnet18(num_classes=10)))


DEEP_SUITE: dict[str, Callable[[], nn.Module]] = {"r3d_18": _r3d_18, "frame-resnet-18": _frame_resnet_18}
