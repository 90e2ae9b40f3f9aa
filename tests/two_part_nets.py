"""Extractors and heads, loaded by `two_part_nets.py:NAME`."""

import torch
from torch import Tensor, nn


def randomised(net: nn.Module, seed: int) -> nn.Module:
    """Give every norm statistics and weights of its own, as training does."""
    generator = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for value in (module.weight.data, module.running_var):
                value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
            for value in (module.bias.data, module.running_mean):
                value.copy_(torch.randn(value.shape, generator=generator))
    return net


def built(seed: int, make) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return randomised(make(), seed)


def maps() -> nn.Module:
    net = built(1, lambda: nn.Sequential(nn.Conv3d(3, 12, 3, 2, 1), nn.BatchNorm3d(12), nn.Tanh()))
    net.input_shape = (3, 4, 16, 16)
    return net


def clip_features() -> nn.Module:
    net = nn.Sequential(*maps(), nn.AdaptiveAvgPool3d(1), nn.Flatten())
    net.input_shape = (3, 4, 16, 16)
    return net


def frame_features() -> nn.Module:
    return built(
        2,
        lambda: nn.Sequential(
            nn.Conv2d(3, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        ),
    )


def mlp() -> nn.Module:
    return built(3, lambda: nn.Sequential(nn.Linear(12, 8), nn.GELU(), nn.Linear(8, 5)))


def normed() -> nn.Module:
    return built(4, lambda: nn.Sequential(nn.Linear(12, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 5)))


def narrow() -> nn.Module:
    return built(5, lambda: nn.Linear(7, 5))


def on_frames() -> nn.Module:
    return built(6, lambda: nn.Linear(6, 5))


def empty() -> nn.Module:
    return nn.Flatten()


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(6, 7, batch_first=True)
        self.fc = nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.gru(x)[0][:, -1])


def recurrent() -> nn.Module:
    return built(7, Recurrent)


class Either(nn.Module):
    """Reads single frames and sequences alike."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x if x.dim() == 2 else x.mean(1))


def either() -> nn.Module:
    return built(8, Either)


class Mixing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x - x.mean(0, keepdim=True))


def mixing() -> nn.Module:
    return built(9, Mixing)


def of_squeezenet() -> nn.Module:
    return built(10, lambda: nn.Linear(512 * 3 * 3, 5))


def texture_extractor() -> nn.Module:
    """A frozen extractor for whole audits: clips of 8 frames of 32 x 32 to 1024 features."""
    net = built(
        11,
        lambda: nn.Sequential(
            nn.Conv3d(3, 12, 3, (1, 2, 2), 1), nn.GELU(), nn.Conv3d(12, 16, 3, (2, 4, 4), 1), nn.GELU(), nn.Flatten()
        ),
    )
    net.input_shape = (3, 8, 32, 32)
    return net


def texture_head() -> nn.Module:
    return built(12, lambda: nn.Linear(16 * 4 * 4 * 4, 10))


def of_lite0() -> nn.Module:
    return built(12, lambda: nn.Linear(1280, 5))
