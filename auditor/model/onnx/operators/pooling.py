"""Pooling in any number of spatial axes."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from auditor.model.onnx.graph import Node
from auditor.model.onnx.operators.convolution import CONVOLVE, dimensions, pad, padding
from auditor.model.onnx.operators.registry import Function, builtin, integers

MAXIMUM = (F.max_pool1d, F.max_pool2d, F.max_pool3d)
AVERAGE = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)


def _ceiling(
    size: Sequence[int],
    both: Sequence[tuple[int, int]],
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
) -> list[int]:
    """Return how many cells past the padding the last window of `ceil_mode` needs, per axis."""
    beyond = []
    for i, (begin, end) in enumerate(both):
        reach = (kernel[i] - 1) * dilation[i] + 1
        windows = -(-(size[i] + begin + end - reach) // stride[i]) + 1
        if (windows - 1) * stride[i] >= size[i] + begin:
            windows -= 1
        beyond.append(max(0, (windows - 1) * stride[i] + reach - size[i] - begin - end))
    return beyond


@builtin("MaxPool")
def _max_pool(node: Node) -> Function:
    kernel = node.attributes["kernel_shape"]
    n = len(kernel)
    dimensions(node, n)
    stride, dilation = node.attributes.get("strides", (1,) * n), node.attributes.get("dilations", (1,) * n)
    ceil_mode = bool(node.attributes.get("ceil_mode", 0))
    indexed = len([name for name in node.outputs if name]) > 1
    by_column = bool(node.attributes.get("storage_order", 0))

    def max_pool(x: Tensor) -> Any:
        both = padding(node, x.shape[2:], kernel, stride, dilation)
        plain = not ceil_mode and all(begin == end <= kernel[i] // 2 for i, (begin, end) in enumerate(both))
        if plain and not indexed:
            return MAXIMUM[n - 1](x, kernel, stride, [begin for begin, _ in both], dilation)
        if ceil_mode:
            beyond = _ceiling(x.shape[2:], both, kernel, stride, dilation)
            both = [(begin, end + beyond[i]) for i, (begin, end) in enumerate(both)]
        lowest = float("-inf") if x.is_floating_point() else torch.iinfo(x.dtype).min
        padded = pad(x, both, lowest)
        if not indexed:
            return MAXIMUM[n - 1](padded, kernel, stride, 0, dilation)
        # The pool runs over positions of the padded grid; ONNX counts positions of the whole unpadded tensor.
        y, inside = MAXIMUM[n - 1](padded, kernel, stride, 0, dilation, return_indices=True)
        cells = torch.arange(x[0, 0].numel(), device=x.device).reshape(x.shape[2:])
        if by_column:  # the last two axes swapped in the numbering
            cells = torch.arange(cells.numel(), device=x.device).reshape(*x.shape[2:-2], *x.shape[:-3:-1]).mT
        numbers = pad(cells, both, 0).reshape(-1)[inside]
        planes = torch.arange(math.prod(x.shape[:2]), device=x.device).reshape(*x.shape[:2], *[1] * n)
        return y, numbers + planes * cells.numel()

    return max_pool


@builtin("MaxUnpool", numbers=(2,))
def _max_unpool(node: Node) -> Function:
    kernel = node.attributes["kernel_shape"]
    n = len(kernel)
    stride, pads = node.attributes.get("strides", (1,) * n), node.attributes.get("pads", (0,) * (2 * n))

    def max_unpool(x: Tensor, index: Tensor, wanted: Any = None) -> Tensor:
        natural = tuple((x.shape[2 + i] - 1) * stride[i] - pads[i] - pads[i + n] + kernel[i] for i in range(n))
        shape = (*x.shape[:2], *natural)
        whole = x.new_zeros(math.prod(shape)).scatter(0, index.reshape(-1), x.reshape(-1)).reshape(shape)
        target = integers(wanted)
        if target is None:
            return whole
        return pad(whole, [(0, extent - natural[i]) for i, extent in enumerate(target[2:])])

    return max_unpool


def _window_sum(x: Tensor, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> Tensor:
    flat = x.reshape(-1, 1, *x.shape[2:])
    summed = CONVOLVE[len(kernel) - 1](flat, x.new_ones(1, 1, *kernel), None, tuple(stride), 0, tuple(dilation))
    return summed.reshape(*x.shape[:2], *summed.shape[2:])


@builtin("AveragePool")
def _average_pool(node: Node) -> Function:
    kernel = node.attributes["kernel_shape"]
    n = len(kernel)
    dimensions(node, n)
    stride, dilation = node.attributes.get("strides", (1,) * n), node.attributes.get("dilations", (1,) * n)
    ceil_mode, include = bool(node.attributes.get("ceil_mode", 0)), bool(node.attributes.get("count_include_pad", 0))

    def average_pool(x: Tensor) -> Tensor:
        both = padding(node, x.shape[2:], kernel, stride, dilation)
        plain = all(begin == end <= kernel[i] // 2 for i, (begin, end) in enumerate(both)) and set(dilation) == {1}
        if plain and not ceil_mode:
            return AVERAGE[n - 1](x, kernel, stride, [begin for begin, _ in both], False, include)
        beyond = [(0, c) for c in _ceiling(x.shape[2:], both, kernel, stride, dilation)] if ceil_mode else [(0, 0)] * n
        counted = pad(torch.ones_like(x[:1, :1]), both, 1.0 if include else 0.0)
        counts = _window_sum(pad(counted, beyond), kernel, stride, dilation)
        return _window_sum(pad(pad(x, both), beyond), kernel, stride, dilation) / counts

    return average_pool


@builtin("LpPool")
def _lp_pool(node: Node) -> Function:
    kernel = node.attributes["kernel_shape"]
    n, power = len(kernel), node.attributes.get("p", 2)
    dimensions(node, n)
    stride, dilation = node.attributes.get("strides", (1,) * n), node.attributes.get("dilations", (1,) * n)
    ceil_mode = bool(node.attributes.get("ceil_mode", 0))

    def lp_pool(x: Tensor) -> Tensor:
        both = padding(node, x.shape[2:], kernel, stride, dilation)
        beyond = [(0, c) for c in _ceiling(x.shape[2:], both, kernel, stride, dilation)] if ceil_mode else [(0, 0)] * n
        return _window_sum(pad(pad(x.abs() ** power, both), beyond), kernel, stride, dilation) ** (1 / power)

    return lp_pool


@builtin("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
def _global_pool(node: Node) -> Function:
    power = node.attributes.get("p", 2)
    if node.operator == "GlobalAveragePool":
        return lambda x: x.mean(tuple(range(2, x.dim())), keepdim=True)
    if node.operator == "GlobalMaxPool":
        return lambda x: x.amax(tuple(range(2, x.dim())), keepdim=True)
    return lambda x: torch.linalg.vector_norm(x, power, tuple(range(2, x.dim())), keepdim=True)
