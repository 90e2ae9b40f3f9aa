"""torchvision's video models at the smallest clips they take, and narrow members of the same families."""

from collections.abc import Callable
from unittest import mock

from torch import nn

CLASSES = 5


def _named(name: str, shape: tuple[int, int, int, int]) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        from torchvision.models import video

        net = getattr(video, name)(weights=None, num_classes=CLASSES)
        if name == "s3d":  # its last window covers 224 pixels
            net.avgpool = nn.AvgPool3d((2, 1, 1), stride=1)
        net.input_shape = shape
        return net

    return make


def small_mvit() -> nn.Module:
    """Return torchvision's mvit_v1_b for clips of 4 frames of 64 pixels; its own function takes no other size."""
    from torchvision.models.video import mvit

    shape = (3, 4, 64, 64)
    make = mvit._mvit
    with mock.patch.object(
        mvit, "_mvit", lambda **given: make(**{**given, "temporal_size": shape[1], "spatial_size": shape[2:]})
    ):
        net = mvit.mvit_v1_b(weights=None, num_classes=CLASSES)
    net.input_shape = shape
    return net


def narrow_swin() -> nn.Module:
    """Return Video Swin with one block at each of two scales; windows are shifted and padded."""
    from torchvision.models.video import SwinTransformer3d

    net = SwinTransformer3d([2, 4, 4], 8, [2, 1], [2, 2], [2, 2, 2], num_classes=CLASSES, stochastic_depth_prob=0.0)
    net.input_shape = (3, 4, 16, 16)
    return net


def narrow_mvit() -> nn.Module:
    """Return MViT with three blocks of pooling attention."""
    from torchvision.models.video.mvit import MSBlockConfig, MViT

    blocks = [
        MSBlockConfig(1, 8, 16, [3, 3, 3], [3, 3, 3], [1, 1, 1], [1, 2, 2]),
        MSBlockConfig(2, 16, 16, [3, 3, 3], [3, 3, 3], [1, 2, 2], [1, 1, 1]),
        MSBlockConfig(2, 16, 16, [], [3, 3, 3], [], [1, 1, 1]),
    ]
    net = MViT((16, 16), 4, blocks, residual_pool=False, residual_with_cls_embed=True, rel_pos_embed=False,
               proj_after_attn=False, num_classes=CLASSES, stochastic_depth_prob=0.0)  # fmt: skip
    net.input_shape = (3, 4, 16, 16)
    return net


NETS = {"swin-narrow": narrow_swin, "mvit-narrow": narrow_mvit}
# Millions of parameters each: seconds to export, so they run with the slow tests.
LARGE = {
    "r3d_18": _named("r3d_18", (3, 8, 32, 32)),
    "mc3_18": _named("mc3_18", (3, 8, 32, 32)),
    "r2plus1d_18": _named("r2plus1d_18", (3, 8, 32, 32)),
    "s3d": _named("s3d", (3, 16, 32, 32)),
    "swin3d_t": _named("swin3d_t", (3, 4, 32, 32)),
    "mvit_v1_b": small_mvit,
}
