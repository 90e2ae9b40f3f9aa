"""Convolutions in one, two and three dimensions."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from auditor.model.onnx.graph import Node
from auditor.model.onnx.operators.registry import Function, UnsupportedError, builtin

CONVOLVE = (F.conv1d, F.conv2d, F.conv3d)
TRANSPOSED = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)


def padding(
    node: Node, size: Sequence[int], kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> list[tuple[int, int]]:
    """Return (begin, end) padding per spatial axis, from `pads` or `auto_pad`."""
    automatic = node.attributes.get("auto_pad", "NOTSET")
    n = len(kernel)
    if automatic in ("SAME_UPPER", "SAME_LOWER"):
        both = []
        for i in range(n):
            total = max(0, (-(-size[i] // stride[i]) - 1) * stride[i] + (kernel[i] - 1) * dilation[i] + 1 - size[i])
            less, more = total // 2, total - total // 2
            both.append((less, more) if automatic == "SAME_UPPER" else (more, less))
        return both
    pads = node.attributes.get("pads") if automatic == "NOTSET" else None
    pads = pads or (0,) * (2 * n)
    return [(pads[i], pads[i + n]) for i in range(n)]


def pad(x: Tensor, both: Sequence[tuple[int, int]], value: float = 0.0) -> Tensor:
    """Pad the trailing axes with a constant."""
    if not any(begin or end for begin, end in both):
        return x
    return F.pad(x, [amount for pair in reversed(both) for amount in pair], value=value)


def dimensions(node: Node, n: int) -> None:
    """Refuse a number of spatial axes that torch has no kernel for."""
    if not 1 <= n <= 3:
        raise UnsupportedError(f"{node.operator} over {n} spatial axes")


@builtin("Conv")
def _convolution(node: Node) -> Function:
    attributes = node.attributes
    group = attributes.get("group", 1)

    def convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        n = weight.dim() - 2
        dimensions(node, n)
        stride, dilation = attributes.get("strides", (1,) * n), attributes.get("dilations", (1,) * n)
        both = padding(node, x.shape[2:], weight.shape[2:], stride, dilation)
        if bias is not None and bias.shape != weight.shape[:1]:
            # onnxscript 0.7 without optimisation writes "no bias" as zeros of the wrong shape.
            if bool(bias.any()):
                raise UnsupportedError(f"Conv with a bias of shape {tuple(bias.shape)}")
            bias = None
        if any(begin != end for begin, end in both):
            x, both = pad(x, both), [(0, 0)] * n
        return CONVOLVE[n - 1](x, weight, bias, stride, [begin for begin, _ in both], dilation, group)

    return convolve


@builtin("ConvTranspose")
def _transposed_convolution(node: Node) -> Function:
    attributes = node.attributes
    group = attributes.get("group", 1)

    def convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        n = weight.dim() - 2
        dimensions(node, n)
        stride, dilation = attributes.get("strides", (1,) * n), attributes.get("dilations", (1,) * n)
        extra = tuple(attributes.get("output_padding", (0,) * n))
        size, kernel = x.shape[2:], weight.shape[2:]
        full = [stride[i] * (size[i] - 1) + extra[i] + (kernel[i] - 1) * dilation[i] + 1 for i in range(n)]
        wanted = attributes.get("output_shape")
        automatic = attributes.get("auto_pad", "NOTSET")
        if wanted is None and automatic in ("SAME_UPPER", "SAME_LOWER"):
            wanted = [size[i] * stride[i] for i in range(n)]
        if wanted is not None:
            totals = [full[i] - wanted[-n:][i] for i in range(n)]
            both = [(t // 2, t - t // 2) if automatic == "SAME_UPPER" else (t - t // 2, t // 2) for t in totals]
        else:
            both = padding(node, size, kernel, stride, dilation)
        function = TRANSPOSED[n - 1]
        if all(begin == end and begin >= 0 for begin, end in both):
            return function(x, weight, bias, stride, [begin for begin, _ in both], extra, group, dilation)
        # torch wants output_padding below stride or dilation, so what lies beyond is padded on and the rest cropped.
        whole = function(x, weight, bias, stride, 0, extra, group, dilation)
        return pad(whole, [(-begin, -end) for begin, end in both])

    return convolve
