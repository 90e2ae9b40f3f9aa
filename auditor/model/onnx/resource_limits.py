"""What running a graph may ask for: numbers, multiplications and calls are counted before they are spent.

A file of a kilobyte can name a tensor of a terabyte, a loop of years or a product that never ends. While a graph is
traced, every operation is measured before it runs. What is allowed grows with the clip and the weights, so that large
models pass and small files cannot ask for much.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from auditor.model.onnx.operators.registry import UnsupportedError

# One value: 128 MiB of float32 for any file; attention over 3136 tokens with 12 heads needs 25 a pixel, 256 are given.
VALUE, VALUE_PER_PIXEL, VALUE_PER_WEIGHT = 2**25, 256, 4
# All values of one pass: 2 GiB of float32 for any file; deep video transformers need 1000 a pixel.
PASS, PASS_PER_PIXEL, PASS_PER_WEIGHT = 2**29, 4096, 32
# Multiplications of one pass: r3d_18 needs 70,000 a pixel, the largest video transformers 500,000.
WORK, WORK_PER_PIXEL = 2**32, 2**23
# Operations of one pass: a recurrent network needs 15 a layer, direction and frame.
CALLS, CALLS_PER_NODE = 100_000, 50
MOST_AXES = 64

PRODUCTS = frozenset({"mm", "bmm", "addmm", "baddbmm", "mv", "addmv", "dot", "addbmm"})
SIZED = ("upsample", "_upsample", "adaptive", "_adaptive", "col2im", "max_unpool", "im2col")
FACTORIES = frozenset({"new_full", "new_zeros", "new_ones", "new_empty", "affine_grid_generator"})


class ResourceLimitError(UnsupportedError):
    """A graph asks for more than a model of its size needs."""


class ResourceLimits(TorchDispatchMode):
    """While active, every torch operation is counted, and refused before it runs when it exceeds the limits.

    Parameters
    ----------
    pixels
        Elements of the input.
    weights
        Elements of all constants of the file.
    nodes
        Nodes of the graph, those of nested graphs included.
    """

    def __init__(self, pixels: int, weights: int, nodes: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.largest = VALUE + VALUE_PER_PIXEL * pixels + VALUE_PER_WEIGHT * weights
        self.values = PASS + PASS_PER_PIXEL * pixels + PASS_PER_WEIGHT * weights
        self.work = WORK + WORK_PER_PIXEL * pixels
        self.calls = CALLS + CALLS_PER_NODE * nodes

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Return False: skipping the compiler would import it first, which takes a second."""
        return False

    def spend(self, calls: int) -> None:
        """Count work that is not a torch operation, in units of one.

        Raises
        ------
        ResourceLimitError
            The graph has used up what it may.
        """
        self.calls -= calls
        if self.calls < 0:
            raise ResourceLimitError("the graph runs more operations than a model of its size needs")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Measure an operation, then run it."""
        kwargs = kwargs or {}
        self.spend(1)
        if not func.is_view:
            self._value(*_measured(func._schema.name.removeprefix("aten::"), args, kwargs))
        elif func._schema.name in ("aten::split", "aten::split_with_sizes", "aten::unbind"):
            self.spend(_parts(args))
        result = func(*args, **kwargs)
        if isinstance(result, Tensor) and result.dim() > MOST_AXES:
            raise ResourceLimitError(f"it makes a value of {result.dim()} axes (at most {MOST_AXES})")
        return result

    def _value(self, numbers: int, work: int) -> None:
        if numbers > self.largest:
            raise ResourceLimitError(
                f"it asks for {_short(numbers)} numbers at once (at most {_short(self.largest)} here)"
            )
        self.values -= numbers
        if self.values < 0:
            raise ResourceLimitError("the graph asks for more numbers than a model of its size needs")
        self.work -= work
        if self.work < 0:
            raise ResourceLimitError("the graph multiplies more often than a model of its size needs")


def _short(count: int) -> str:
    return str(count) if count < 10**6 else f"{count:.1e}" if count < 10**300 else "endless"


def _measured(name: str, args: Any, kwargs: Any) -> tuple[int, int]:
    """Return upper bounds of the elements that an operation makes and of the multiplications it does."""
    tensors = list(_tensors((args, kwargs)))
    for tensor in tensors:
        if tensor.dim() > MOST_AXES:
            raise ResourceLimitError(f"a value has {tensor.dim()} axes (at most {MOST_AXES})")
    if name == "convolution":
        return _convolution(args)
    if name in PRODUCTS:
        return _product(name, args)
    if name == "arange":
        return _range([v for v in args if isinstance(v, int | float)]), 0
    if not tensors or name in FACTORIES:
        return _listed(args), 0
    if name == "repeat":
        return tensors[0].numel() * _volume(args[1]), 0
    if name == "constant_pad_nd":
        pads, shape = args[1], list(tensors[0].shape)
        for i in range(min(len(pads) // 2, len(shape))):
            shape[-1 - i] += max(0, pads[2 * i]) + max(0, pads[2 * i + 1])
        return math.prod(shape), 0
    if name in ("cat", "stack"):
        return sum(tensor.numel() for tensor in tensors), 0
    if name in ("index_select", "index", "embedding"):
        return _picked(args, tensors), 0
    if name.startswith("grid_sampler"):
        made = math.prod(tensors[0].shape[:2]) * math.prod(tensors[1].shape[1:-1])
        return made, made * 16
    if "pool" in name and len(args) > 1 and not name.startswith(SIZED):
        return _pool(args)
    if name.startswith(SIZED):
        return math.prod(tensors[0].shape[:2]) * max(_listed(args[1:]), 1), 0
    if name == "nonzero":
        return tensors[0].numel() * max(tensors[0].dim(), 1), 0
    return _broadcast(tensors), 0


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


def _volume(extents: Any) -> int:
    """Return a product in which an extent of zero counts as one: rows of nothing cost time as well."""
    return math.prod(max(abs(int(extent)), 1) for extent in extents)


def _listed(args: Any) -> int:
    """Return the elements of a tensor whose shape stands among the arguments."""
    for value in args:
        if isinstance(value, list | tuple) and all(isinstance(v, int) for v in value):
            return _volume(value)
    numbers = [value for value in args if isinstance(value, int) and not isinstance(value, bool)]
    return _volume(numbers[:2])


def _range(numbers: list[int | float]) -> int:
    start, end, step = (0, numbers[0], 1) if len(numbers) == 1 else (*numbers, 1)[:3]
    count = (end - start) / step if step else math.inf
    return math.ceil(max(count, 0)) if math.isfinite(count) else 2**63


def _broadcast(tensors: list[Tensor]) -> int:
    rank = max(tensor.dim() for tensor in tensors)
    shape = [1] * rank
    for tensor in tensors:
        for i, extent in enumerate(reversed(tensor.shape)):
            shape[-1 - i] = max(shape[-1 - i], extent)
    return _volume(shape)


def _picked(args: Any, tensors: list[Tensor]) -> int:
    """Return the elements that indexing makes: those of the index times what lies behind one position."""
    table = tensors[0]
    index = tensors[1:]
    if any(tensor.dtype == torch.bool for tensor in index):
        return table.numel() * max(table.dim(), 1)
    if isinstance(args[1], int):  # index_select: one axis is replaced
        extent = max(table.shape[args[1]] if table.dim() else 1, 1)
        return _volume(table.shape) // extent * max(index[0].numel(), 1)
    places = args[1] if isinstance(args[1], list | tuple) else [args[1]]
    kept = [extent for i, extent in enumerate(table.shape) if i >= len(places) or places[i] is None]
    return _broadcast(index) * _volume(kept) if index else table.numel()


def _product(name: str, args: Any) -> tuple[int, int]:
    a, b = [value for value in args if isinstance(value, Tensor)][-2:]
    made = a.numel() // max(a.shape[-1] if a.dim() else 1, 1) * (b.shape[-1] if b.dim() > 1 else 1)
    return made, made * (a.shape[-1] if a.dim() else 1)


def _convolution(args: Any) -> tuple[int, int]:
    x, weight, _, stride, padding, dilation, transposed, extra, groups = args[:9]
    n = weight.dim() - 2
    if n < 1 or x.dim() != n + 2:
        return 0, 0  # torch refuses it
    each = [tuple(v) * n if len(v) == 1 else tuple(v) for v in (stride, padding, dilation, extra)]
    stride, padding, dilation, extra = (v if len(v) == n else (1,) * n for v in each)
    size, kernel = x.shape[2:], weight.shape[2:]
    if transposed:
        out = [
            (size[i] - 1) * stride[i] - 2 * padding[i] + dilation[i] * (kernel[i] - 1) + extra[i] + 1 for i in range(n)
        ]
        channels = weight.shape[1] * groups
        return x.shape[0] * channels * _volume(out), x.numel() * weight[0].numel() if weight.numel() else 0
    out = [
        max(0, (size[i] + 2 * padding[i] - dilation[i] * (kernel[i] - 1) - 1) // max(stride[i], 1) + 1)
        for i in range(n)
    ]
    made = x.shape[0] * weight.shape[0] * _volume(out)
    return made, made * (weight[0].numel() if weight.numel() else 0)


def _pool(args: Any) -> tuple[int, int]:
    x, kernel = args[0], [int(v) for v in args[1]] if isinstance(args[1], list | tuple) else [int(args[1])]
    n = len(kernel)
    if x.dim() < n + 1:
        return 0, 0
    stride = list(args[2]) if len(args) > 2 and args[2] else kernel
    padding = list(args[3]) if len(args) > 3 and isinstance(args[3], list | tuple) else [0] * n
    stride, padding = (v * n if len(v) == 1 else v for v in (stride, padding))
    out = [max(1, (x.shape[i - n] + 2 * padding[i] - kernel[i]) // max(stride[i], 1) + 2) for i in range(n)]
    made = math.prod(x.shape[: x.dim() - n]) * _volume(out)
    return made, made * _volume(kernel)


def _parts(args: Any) -> int:
    """Return into how many pieces a tensor is cut."""
    x, size = args[0], args[1] if len(args) > 1 else 0
    if isinstance(size, list | tuple):
        return len(size)
    axis = args[2] if len(args) > 2 else 0
    extent = x.shape[axis] if x.dim() and -x.dim() <= axis < x.dim() else 1
    return extent // max(int(size), 1) if len(args) > 1 else (x.shape[size] if x.dim() else 1)
