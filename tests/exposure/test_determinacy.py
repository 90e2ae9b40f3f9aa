"""Equations against unknowns: held against the rank of the explicit matrix, and against known tables of deep nets."""

import time

import pytest
import torch
from bench_nets import CLASSES, SPEC, Transformer, seeded, target_of
from torch import nn

from auditor.exposure import determinacy
from auditor.records import InputSpec

LAYERS = {
    "plain": (lambda: nn.Conv3d(3, 5, 3, padding=1), (4, 6, 6)),
    "few channels, many positions": (lambda: nn.Conv3d(3, 2, (1, 3, 3), padding=(0, 1, 1)), (4, 6, 6)),
    "stride 2": (lambda: nn.Conv3d(3, 4, 3, stride=2, padding=1), (4, 6, 7)),
    "stride 2 without padding leaves positions unread": (lambda: nn.Conv3d(3, 40, (1, 2, 3), stride=2), (4, 6, 6)),
    "stride wider than the kernel": (lambda: nn.Conv3d(3, 40, (1, 2, 2), stride=(1, 3, 3)), (2, 7, 7)),
    "dilated": (lambda: nn.Conv3d(3, 4, (1, 3, 3), padding=(0, 2, 2), dilation=(1, 2, 2)), (2, 7, 7)),
    "grouped": (lambda: nn.Conv3d(4, 8, 3, padding=1, groups=2), (2, 6, 6)),
    "depthwise": (lambda: nn.Conv3d(4, 4, 3, padding=1, groups=4), (2, 6, 6)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_the_rank_is_that_of_the_explicit_matrix(name):
    make, extent = LAYERS[name]
    conv = seeded(make).double()
    x = torch.zeros(1, conv.in_channels, *extent, dtype=torch.float64)
    delta = torch.randn(conv(x).shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def gradient(channel: torch.Tensor) -> torch.Tensor:
        seen = torch.cat([channel[None, None], x[:, 1:]], 1)
        (made,) = torch.autograd.grad(conv(seen), conv.weight, delta, create_graph=True)
        return made[:, 0]

    matrix = torch.autograd.functional.jacobian(gradient, x[0, 0]).reshape(-1, x[0, 0].numel())
    (found,) = determinacy_of(conv, extent)
    assert found.equations == conv.weight[:, 0].numel() // conv.groups
    assert found.unknowns == matrix.shape[1]
    assert found.rank == int(torch.linalg.matrix_rank(matrix))
    assert found.determined == (found.rank == found.unknowns)


def determinacy_of(conv: nn.Module, extent):
    class Alone(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = conv

        def forward(self, x):
            x = x.mean(1, keepdim=True).expand(-1, conv.in_channels, -1, -1, -1)
            return self.conv(x.to(conv.weight)).flatten(1)[:, :CLASSES]

    spec = InputSpec(frames=extent[0], channels=3, height=extent[1], width=extent[2], layout="NCTHW")
    return counted(target_of(Alone(), spec))


def counted(target, clips: int = 1):
    return determinacy(target.layers, {n: tuple(p.shape) for n, p in target.parameters.items()}, clips)


def test_layers_that_read_one_value_stack_their_equations():
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv3d(3, 4, 3, padding=1)
            self.first, self.second = nn.Conv3d(4, 8, 3, 2, 1, bias=False), nn.Conv3d(8, 8, 3, 1, 1, bias=False)
            self.shortcut = nn.Conv3d(4, 8, 1, 2, bias=False)
            self.head = nn.Linear(8, CLASSES)

        def forward(self, x):
            x = self.stem(x).relu_()
            x = (self.second(self.first(x).relu()) + self.shortcut(x)).relu()
            return self.head(x.mean((2, 3, 4)))

    made = counted(target_of(seeded(Block)))
    assert [d.layers for d in made] == [("stem",), ("first", "shortcut"), ("second",), ("head",)]
    both = made[1]
    assert both.equations == 28 * 8
    assert both.unknowns == 4 * 16 * 16
    # Eight classes of 128 positions are read by 1, 2, 4 or 8 taps of 8 channels, and the first by the shortcut too.
    assert both.rank == 8 * (1 + 1) + 3 * 16 + 3 * 32 + 64
    assert made[3].rank == made[3].unknowns == 1


def test_tokens_are_held_against_features():
    net = seeded(Transformer)
    found = {name: d for d in counted(target_of(net)) for name in d.layers}
    assert found["block.linear1"].unknowns == 32
    assert found["block.linear1"].equations == 192
    assert found["block.linear1"].determined
    assert found["embed"].unknowns == SPEC.frames * SPEC.height * SPEC.width
    assert not {name: d for d in counted(target_of(net), clips=7) for name in d.layers}["block.linear1"].determined


def test_clips_multiply_the_unknowns():
    target = target_of(seeded(lambda: nn.Sequential(nn.Conv3d(3, 40, 3, 1, 1), nn.Flatten(), nn.Linear(40960, 10))))
    one, two = counted(target)[0], counted(target, clips=2)[0]
    assert one.determined
    assert one.equations == two.equations == 27 * 40
    assert two.unknowns == 2 * one.unknowns
    assert not two.determined
    assert two.share == pytest.approx(27 * 40 / 2048)


# Unknowns and rank for each input channel, by the layers that read it.
R3D_18 = {
    (8, 32): {"layer4.1": (4, 4), "layer4.0": (32, 32), "layer3.1": (32, 32), "layer3.0": (256, 256),
              "layer2.1": (256, 256), "layer2.0": (2048, 2048), "layer1.1": (2048, 1728)},
    (8, 64): {"layer4.1": (16, 16), "layer4.0": (128, 128), "layer3.1": (128, 128), "layer3.0": (1024, 1024),
              "layer2.1": (1024, 1024), "layer2.0": (8192, 3584), "layer1.1": (8192, 1728)},
    (16, 112): {"layer4.1": (98, 98), "layer4.0": (784, 784), "layer3.1": (784, 784), "layer3.0": (6272, 5184),
                "layer2.1": (6272, 3456), "layer2.0": (50176, 3584), "layer1.1": (50176, 1728)},
}  # fmt: skip


@pytest.mark.parametrize("size", R3D_18)
def test_the_table_of_a_residual_net_takes_milliseconds(size):
    video = pytest.importorskip("torchvision.models.video")
    frames, side = size
    spec = InputSpec(frames=frames, channels=3, height=side, width=side, layout="NCTHW")
    target = target_of(seeded(lambda: video.r3d_18(num_classes=CLASSES)), spec)
    start = time.perf_counter()
    found = {d.layers[0]: d for d in counted(target)}
    assert time.perf_counter() - start < 1.0
    for block, (unknowns, rank) in R3D_18[size].items():
        first = found[f"{block}.conv1.0"]
        assert (first.unknowns, first.rank) == (unknowns, rank), block
        assert (f"{block}.downsample.0" in first.layers) == block.endswith(("2.0", "3.0", "4.0"))
