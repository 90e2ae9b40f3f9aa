"""LPIPS, the learned perceptual distance, with the weights that a user has."""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from auditor.errors import UsageError
from auditor.records import Clip
from auditor.score.perceptual import seen
from auditor.score.shapes import check_shapes
from auditor.text import printable

# AlexNet (Krizhevsky, Sutskever, Hinton 2012) as torchvision numbers its layers: convolution, stride, padding, and
# whether a 3 x 3 maximum with stride 2 comes before it.
_LAYERS = (("slice1.0", 4, 2, False), ("slice2.3", 1, 2, True), ("slice3.6", 1, 1, True), ("slice4.8", 1, 1, False),
           ("slice5.10", 1, 1, False))  # fmt: skip
_SHAPES = ((64, 3, 11, 11), (192, 64, 5, 5), (384, 192, 3, 3), (256, 384, 3, 3), (256, 256, 3, 3))
# The published scaling of pixels in [-1, 1].
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
# Five layers of AlexNet need some thirty pixels; smaller frames are enlarged to twice that.
SIDE = 64
REMEDY = "save one with the lpips package: torch.save(lpips.LPIPS(net='alex').state_dict(), 'lpips.pt')"


class Lpips:
    """LPIPS with AlexNet (Zhang et al., CVPR 2018, arXiv 1801.03924; version 0.1), from a state dict of the package.

    The file is `torch.save(lpips.LPIPS(net="alex").state_dict(), FILE)`: backbone and linear layers in one, which this
    project neither ships nor downloads. It is read without running code from it.

    Raises
    ------
    UsageError
        The file is missing or holds something else.
    """

    def __init__(self, path: Path) -> None:
        state = _read(path)
        shown = printable(str(path), 300)
        self._convolutions = [
            (_taken(state, f"net.{name}.weight", shape, shown), _taken(state, f"net.{name}.bias", shape[:1], shown))
            for (name, *_), shape in zip(_LAYERS, _SHAPES, strict=True)
        ]
        self._linear = [
            _taken(state, f"lin{i}.model.1.weight", (1, shape[0], 1, 1), shown) for i, shape in enumerate(_SHAPES)
        ]

    def __call__(self, truth: Clip, estimate: Clip) -> float:
        """Return the distance averaged over frames: 0 for equal clips, about 0.7 and more for unrelated ones.

        Frames with a side under 64 are enlarged to it by bicubic interpolation, odd sides made
        even; values outside [0, 1] are clipped.

        Raises
        ------
        ValueError
            The shapes differ.
        """
        check_shapes(truth, estimate)
        with torch.no_grad():
            pairs = zip(self._maps(truth), self._maps(estimate), self._linear, strict=True)
            layers = [functional.conv2d((a - b).square(), weight).mean((1, 2, 3)) for a, b, weight in pairs]
        return float(torch.stack(layers).sum(0).mean())

    def _maps(self, clip: Clip) -> list[Float[Tensor, "frame channel rows columns"]]:
        shift, scale = (torch.tensor(values)[None, :, None, None] for values in (_SHIFT, _SCALE))
        x = (2 * seen(clip, SIDE) - 1 - shift) / scale
        maps = []
        for (_, stride, padding, pooled), (weight, bias) in zip(_LAYERS, self._convolutions, strict=True):
            if pooled:
                x = functional.max_pool2d(x, 3, 2)
            x = functional.conv2d(x, weight, bias, stride, padding).relu()
            maps.append(x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10))
        return maps


def _read(path: Path) -> dict[str, Tensor]:
    shown = printable(str(path), 300)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UsageError(f"--lpips {shown} cannot be read ({error.strerror or type(error).__name__})", REMEDY) from None
    except Exception as error:  # pickle and zip have errors of a dozen kinds
        raise UsageError(f"--lpips {shown} is no state dict of PyTorch ({type(error).__name__})", REMEDY) from error
    if not isinstance(state, dict):
        raise UsageError(f"--lpips {shown} holds a {type(state).__name__}, no state dict", REMEDY)
    return state


def _taken(state: dict[str, Tensor], name: str, shape: tuple[int, ...], shown: str) -> Tensor:
    value = state.get(name)
    if not isinstance(value, Tensor) or value.layout != torch.strided or not value.is_floating_point():
        raise UsageError(f"--lpips {shown} has no {name} of plain floats", REMEDY)
    if tuple(value.shape) != shape:
        raise UsageError(f"--lpips {shown} has no {name} of shape {shape}", REMEDY)
    if not bool(torch.isfinite(value).all()):
        raise UsageError(f"--lpips {shown} holds NaN or infinity in {name}", REMEDY)
    return value.float()
