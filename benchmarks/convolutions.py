"""Convolutions whose derivatives of every order are three operations of the library that computes them.

A convolution is linear in its input and in its weight, so that its gradients are again one of three: the convolution,
the gradient at its input, and the gradient at its weight. PyTorch differentiates a gradient by convolutions with
kernels as large as the frames instead (`_convolution_double_backward`). On CPUs that is no slower: 1.5, 1.18 and 1.02
times the seconds with the three operations (Conv3d flatten and r3d_18 at 8x32x32, r3d_18 at 16x112x112). On an H200 a
step of gradient matching takes 4.6 and 18 steps of training, where operations alone would make it 3: whether this is
why, `benchmarks/gpu.py` tells the next time that it runs on one.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_Settings = tuple[list[int], list[int], list[int], int]


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, settings: _Settings) -> Tensor:
        stride, padding, dilation, groups = ctx.settings = settings
        ctx.save_for_backward(x, weight)
        none = [0] * len(stride)
        return torch.ops.aten.convolution(x, weight, None, stride, padding, dilation, False, none, groups)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        at_input = _AtInput.apply(grads[0], weight, x.shape, ctx.settings) if ctx.needs_input_grad[0] else None
        at_weight = _AtWeight.apply(x, grads[0], weight.shape, ctx.settings) if ctx.needs_input_grad[1] else None
        return at_input, at_weight, None


class _AtInput(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, above: Tensor, weight: Tensor, shape: Sequence[int], settings: _Settings) -> Tensor:
        ctx.shape, ctx.settings = shape, settings
        ctx.save_for_backward(above, weight)
        return _gradients(above, above.new_empty(1).expand(shape), weight, settings, [True, False, False])[0]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        above, weight = ctx.saved_tensors
        at_above = _Convolution.apply(grads[0], weight, ctx.settings) if ctx.needs_input_grad[0] else None
        at_weight = _AtWeight.apply(grads[0], above, weight.shape, ctx.settings) if ctx.needs_input_grad[1] else None
        return at_above, at_weight, None, None


class _AtWeight(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, above: Tensor, shape: Sequence[int], settings: _Settings) -> Tensor:
        ctx.shape, ctx.settings = shape, settings
        ctx.save_for_backward(x, above)
        return _gradients(above, x, x.new_empty(1).expand(shape), settings, [False, True, False])[1]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, above = ctx.saved_tensors
        at_input = _AtInput.apply(above, grads[0], x.shape, ctx.settings) if ctx.needs_input_grad[0] else None
        at_above = _Convolution.apply(x, grads[0], ctx.settings) if ctx.needs_input_grad[1] else None
        return at_input, at_above, None, None


def _gradients(above: Tensor, x: Tensor, weight: Tensor, settings: _Settings, which: list[bool]) -> Any:
    stride, padding, dilation, groups = settings
    none = [0] * len(stride)
    return torch.ops.aten.convolution_backward(
        above, x, weight, None, stride, padding, dilation, False, none, groups, which
    )


def conv3d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """Return what `torch.conv3d` does, to the rounding of sums; padding in numbers alone."""
    stride, padding, dilation = ([v] * 3 if isinstance(v, int) else list(v) for v in (stride, padding, dilation))
    made: Tensor = _Convolution.apply(x, weight, (stride, padding, dilation, groups))
    return made if bias is None else made + bias.view(-1, 1, 1, 1)


class ByThreeOperations(TorchFunctionMode):
    """Computes `torch.conv3d` in this way, inside of its context."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return (conv3d if func is torch.conv3d else func)(*args, **(kwargs or {}))
