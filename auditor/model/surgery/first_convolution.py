"""Stride and kernel of the first convolution."""

from typing import Any

from torch import Tensor, nn

from auditor.model.surgery.order import ModuleCall, calls_of, put
from auditor.model.surgery.refit import refit
from auditor.model.surgery.refusal import refused


def change_stride(network: nn.Module, value: str, x: Tensor) -> str:
    """Let the first convolution walk with another stride, in time and space or as 1x2x2; its weight is kept.

    Raises
    ------
    UsageError
        There is none, or what stands behind it depends on the size of its output.
    """
    change = f"stride={value}"
    first = _first(network, x, change)
    stride = _sizes(value, first, change)
    convolution = _convolution(first)
    if convolution.stride == stride:
        raise refused(change, f"the first convolution, {first.name}, has that stride already")
    convolution.stride = stride
    return _told(f"stride {value} of {first.name}", refit(network, x, change))


def change_kernel(network: nn.Module, value: str, x: Tensor) -> str:
    """Give the first convolution another kernel, odd and padded to keep the size of its output; it is drawn anew.

    Raises
    ------
    UsageError
        There is none, the kernel is even, or what stands behind depends on the size of its output.
    """
    change = f"kernel={value}"
    first = _first(network, x, change)
    kernel = _sizes(value, first, change)
    old = _convolution(first)
    if old.kernel_size == kernel:
        raise refused(change, f"the first convolution, {first.name}, has that kernel already")
    if any(size % 2 == 0 for size in kernel):
        raise refused(change, "an even kernel has no middle", "give an odd one")
    kind: Any = type(old)  # each has as many numbers as axes
    new = kind(
        old.in_channels,
        old.out_channels,
        kernel,
        stride=old.stride,
        padding=tuple(d * (k // 2) for d, k in zip(old.dilation, kernel, strict=True)),
        dilation=old.dilation,
        groups=old.groups,
        bias=old.bias is not None,
        padding_mode=old.padding_mode,
    )
    put(network, first.name, new)
    return _told(f"kernel {value} of {first.name}, drawn anew", refit(network, x, change))


def _first(network: nn.Module, x: Tensor, change: str) -> ModuleCall:
    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    found = next((c for c in calls_of(network, x) if isinstance(c.module, kinds)), None)
    if found is None:
        raise refused(change, "no convolution of the network is a module")
    return found


def _convolution(call: ModuleCall) -> nn.Conv1d | nn.Conv2d | nn.Conv3d:
    assert isinstance(call.module, (nn.Conv1d, nn.Conv2d, nn.Conv3d))
    return call.module


def _sizes(value: str, first: ModuleCall, change: str) -> tuple[int, ...]:
    axes = len(_convolution(first).kernel_size)
    parts = value.split("x")
    if len(parts) not in (1, axes):
        raise refused(change, f"{first.name} has {axes} axes", "give one number, or one for each axis: 1x2x2")
    return tuple(int(p) for p in parts) if len(parts) == axes else (int(parts[0]),) * axes


def _told(what: str, made: tuple[str, ...]) -> str:
    return f"{what}; drawn anew behind it: {', '.join(made)}" if made else what
