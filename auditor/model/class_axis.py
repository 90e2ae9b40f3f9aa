"""Which axis of an output holds the classes: video nets return (clip, class, time) as well as (clip, frame, class)."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from auditor.model.forward_pass import Reading
from auditor.model.output import activation

CONVOLUTION = ("aten::convolution", "aten::_convolution", "aten::convolution_overrideable")
PRODUCTS = ("addmm", "mm", "bmm", "baddbmm", "linear", "addbmm")
LAST_LAYERS = 3  # a gate or a smoothing layer may come after the layer that gives the classes


def class_axis(output: Tensor, readings: Sequence[Reading]) -> int | None:
    """Return the axis of `output` that the channels of the last layer go into; None where nothing tells.

    `output` is what the network returned for one clip, with more than two axes, and `readings` are its layers, both
    with gradients attached. The derivative of an output by the last layer's channels shows it: along the axis of
    classes, one index depends on one channel. Shares (softmax) add up to one along it. Where neither tells, the number
    of channels decides if it fits a single axis.
    """
    axes = range(1, output.dim())
    ending = activation(output)
    if ending in ("softmax", "log-softmax"):
        shares = output.detach().exp() if ending == "log-softmax" else output.detach()
        whole = [i for i in axes if torch.allclose(shares.sum(i), torch.ones(()), atol=1e-4)]
        return whole[0] if len(whole) == 1 else None
    heads = list(last_layers(readings))[:LAST_LAYERS]
    for values, axis in heads:
        if values.shape[axis] > 1:
            found = [i for i in axes if output.shape[i] == values.shape[axis] and _follows(output, i, values, axis)]
            if len(found) == 1:
                return found[0]
    sizes = [values.shape[axis] for values, axis in heads]
    if not sizes:
        return None
    classes = next((size for size in sizes if size > 1), 1)  # gates and smoothing have one channel
    if sizes[0] != 1 and output.shape[-1] == classes:
        return output.dim() - 1
    fitting = [i for i in axes if output.shape[i] == sizes[0]]
    return fitting[0] if len(fitting) == 1 or sizes[0] == 1 < len(fitting) else None


def by_extent(output: Tensor, classes: int | None) -> int | None:
    """Return the only axis of an output that has as many entries as there are classes."""
    axes = [i for i in range(1, output.dim()) if output.shape[i] == classes]
    return axes[0] if len(axes) == 1 else None


def arranged(output: Tensor, axis: int | None) -> Tensor:
    """Return an output with its classes last and without the axes of one entry that stand between.

    What has three axes with the classes last stays as it is, also for a single frame. With an axis past the last, each
    entry is a frame of one class.

    >>> arranged(torch.zeros(2, 5, 4), 1).shape, arranged(torch.zeros(2, 5, 1, 1, 1), None).shape
    (torch.Size([2, 4, 5]), torch.Size([2, 5]))
    """
    if output.dim() == 2 == axis:
        return output.unsqueeze(-1)
    if output.dim() < 3 or (output.dim() == 3 and axis in (None, 2)):
        return output
    if axis is None:
        wide = [i for i in range(1, output.dim()) if output.shape[i] > 1]
        if len(wide) > 1:
            return output
        axis = wide[0] if wide else 1
    moved = output.movedim(axis, -1)
    between = [extent for extent in moved.shape[1:-1] if extent > 1]
    return moved.reshape(moved.shape[0], *between, moved.shape[-1])


def last_layers(readings: Sequence[Reading]) -> Iterator[tuple[Tensor, int]]:
    """Yield what the last layers returned, the very last first, and the axis of their channels."""
    for reading in reversed(readings):
        if reading.operator in CONVOLUTION:
            yield reading.output, 1
        elif reading.operator.removeprefix("aten::") in PRODUCTS and reading.output.dim() > 1:
            yield reading.output, reading.output.dim() - (2 if reading.weight_first else 1)


def _follows(output: Tensor, place: int, values: Tensor, axis: int) -> bool:
    """Tell whether each index along one axis of the output depends on the same index of a layer's channels alone."""
    if not output.requires_grad or not values.requires_grad:
        return False
    last = output.shape[place] - 1
    for index in (0, last):
        (slope,) = torch.autograd.grad(output.select(place, index).sum(), values, retain_graph=True, allow_unused=True)
        if slope is None:
            return False
        others = [i for i in range(values.dim()) if i != axis]
        touched = (slope != 0).sum(others) if others else slope != 0
        if touched.nonzero().flatten().tolist() != [index]:
            return False
    return True
