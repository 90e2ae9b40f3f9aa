"""Equations against unknowns of every layer's input, from shapes alone and without an attack."""

import math
from collections.abc import Mapping, Sequence
from itertools import product

from auditor.records import Convolution, Layer
from auditor.results.model import Determinacy


def determinacy(
    layers: Sequence[Layer], shapes: Mapping[str, tuple[int, ...]], clips: int = 1
) -> tuple[Determinacy, ...]:
    """Count equations and unknowns of every convolution and Linear layer, in the order of the forward pass.

    Takes milliseconds for any net. The rank is an upper bound that random gradients reach; dead units and gradients
    that vanish lower it. A weight that is read more than once is counted for its first reading.

    Parameters
    ----------
    shapes
        Of the parameters, by name.
    clips
        How many share the update.
    """
    stacks: dict[tuple[int | None, int, tuple[int, ...]], list[Layer]] = {}
    for layer in layers:
        if not _counts(layer, shapes):
            continue
        alone = layer.index if layer.reads is None else -1
        stacks.setdefault((layer.reads, alone, layer.input_shape), []).append(layer)
    return tuple(_stacked(stack, shapes, clips) for stack in stacks.values())


def _counts(layer: Layer, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    weight = shapes.get(layer.parameters[0], ()) if layer.parameters else ()
    if not layer.input_shape or not layer.output_shape or len(weight) < 2:
        return False
    return layer.convolution is not None or (layer.kind == "linear" and len(weight) == 2 and layer.rows is not None)


def _stacked(stack: Sequence[Layer], shapes: Mapping[str, tuple[int, ...]], clips: int) -> Determinacy:
    names = tuple(layer.name for layer in stack)
    walked = [layer for layer in stack if layer.convolution is not None]
    if not walked:
        rows = (stack[0].rows or 1) * clips
        equations = sum(math.prod(shapes[layer.parameters[0]]) // layer.input_shape[-1] for layer in stack)
        return Determinacy(layers=names, equations=equations, unknowns=rows, rank=min(equations, rows))
    images = walked[0].input_shape[0] * clips
    walks = [(_walk(layer), shapes[layer.parameters[0]], layer.output_shape) for layer in walked]
    axes = range(len(walked[0].input_shape) - 2)
    modulus = tuple(math.gcd(*(w.stride[a] for w, _, _ in walks)) for a in axes)
    extent = walked[0].input_shape[2:]
    equations, rank = 0, 0
    for remainder in product(*(range(m) for m in modulus)):
        rows = read = 0
        for walk, weight, output in walks:
            channels = weight[1] if walk.transposed else weight[0] // walk.groups
            places = [_places(walk, a, extent[a], output[2 + a], modulus[a], remainder[a]) for a in axes]
            equations += channels * math.prod(map(len, places))
            rows += sum(min(channels, images * math.prod(map(len, taps))) for taps in product(*places))
            read = max(read, images * math.prod(len(set().union(*taps)) for taps in places))
        rank += min(rows, read)
    return Determinacy(layers=names, equations=equations, unknowns=images * math.prod(extent), rank=rank)


def _walk(layer: Layer) -> Convolution:
    assert layer.convolution is not None
    walk = layer.convolution
    if not walk.transposed:
        return walk
    # Every position of the input meets every tap somewhere in the output.
    ones, zeros = (tuple(value for _ in walk.kernel) for value in (1, 0))
    return Convolution(kernel=walk.kernel, stride=ones, padding=zeros, dilation=ones, groups=1, transposed=True)


def _places(walk: Convolution, axis: int, extent: int, outputs: int, modulus: int, remainder: int) -> list[set[int]]:
    """Return, for every tap that reads positions of this remainder along an axis, which it reads."""
    if walk.transposed:
        return [set(range(extent))] * walk.kernel[axis]
    stride, dilation = walk.stride[axis], walk.dilation[axis]
    firsts = (dilation * tap - walk.padding[axis] for tap in range(walk.kernel[axis]))
    reads = ((first, range(first, first + stride * outputs, stride)) for first in firsts)
    return [{q for q in read if 0 <= q < extent} for first, read in reads if first % modulus == remainder]
