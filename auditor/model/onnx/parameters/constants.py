"""What a constant of an ONNX graph is, told by its name and its numbers: filler, mask, fixed positions."""

import re
from collections.abc import Collection

import torch
from torch import Tensor

MASKED = -1e3
# What dynamo calls values that it computed at export: the operation, and a number from the second on.
OPERATIONS = (
    "view|reshape|permute|transpose|t|unsqueeze|squeeze|expand|expand_as|repeat|cat|stack|slice|select|index|"
    "index_select|gather|linear|addmm|mm|bmm|matmul|add|sub|mul|div|pow|neg|exp|sqrt|rsqrt|softmax|sigmoid|tanh|relu|"
    "gelu|clone|contiguous|zeros|zeros_like|ones|ones_like|full|full_like|empty_like|new_zeros|new_ones|new_full|"
    "layer_norm|mean|sum|sin|cos|getitem|arange|masked_fill|roll|flatten|unflatten|to|_to_copy|_unsafe_view"
)
PRECOMPUTED = re.compile(rf"^({OPERATIONS})(_\d+)?$")
# Names that exporters invent; a name that a person chose has none of these forms.
INVENTED = re.compile(
    rf"^(val_\d+|\d+|onnx::\w+|/.*_output_\d+|_?const(ant)?[_\d].*|.*/Constant\w*|Constant\w*|({OPERATIONS})(_\d+)?)$"
)
# How PyTorch spells parameters and buffers: a root nn.Sequential begins with a number. Other programs put slashes and
# colons into the names of constants.
SPELLED = re.compile(r"^\w+(\.\w+)*$")
# Spectral normalisation keeps two vectors beside the weight that it divides: (vectors, weight) of each interface.
POWER_ITERATION = (
    (re.compile(r"^(.*)_[uv]$"), "{}_orig"),
    (re.compile(r"^(.*parametrizations\.\w+)\.\d+\._[uv]$"), "{}.original"),
)
# What the TorchScript exporter computed in advance; its older versions number such values.
COMPUTED_BY_TORCHSCRIPT = re.compile(r"^(onnx::\w+_)?\d+$")
# torch.nn.utils.prune keeps a mask of each weight that it thins out.
PRUNED = re.compile(r"(^|[._])mask$")
PARTS = (1, 2, 3, 4)
LONGEST_NAME = 200  # a crafted one could keep a search busy


def never_trained(name: str, value: Tensor, names: Collection[str]) -> str:
    """Return what a constant is that its numbers show is not trained; empty for any other. `names` are those beside."""
    if is_sinusoidal(value):
        return "sines and cosines of positions"
    if is_pruning(name, value):
        return "the masks of pruned weights"
    return "the vectors of spectral normalisation" if power_iteration(name, names) else ""


def is_filler(name: str, value: Tensor) -> bool:
    """Tell whether a constant is one repeated number under a name that no person chose."""
    return bool(INVENTED.match(name)) and is_uniform(value)


def is_uniform(value: Tensor) -> bool:
    """Tell whether a constant is one number, once or repeated."""
    return value.numel() > 0 and bool((value == value.reshape(-1)[0]).all())


def is_vector(value: Tensor) -> bool:
    """Tell whether a constant extends along one axis only, as what is added or multiplied by channel does."""
    return sum(extent > 1 for extent in value.shape) == 1


def power_iteration(name: str, names: Collection[str]) -> bool:
    """Tell whether a constant is a vector that spectral normalisation iterates, by the weight beside it.

    >>> power_iteration("0.weight_u", ["0.weight_orig", "0.weight_u"]), power_iteration("head_v", ["head.weight"])
    (True, False)
    """
    if len(name) > LONGEST_NAME:
        return False
    found = ((spelled.match(name), weight) for spelled, weight in POWER_ITERATION)
    return any(match is not None and weight.format(match[1]) in names for match, weight in found)


def is_pruning(name: str, value: Tensor) -> bool:
    """Tell whether a constant is a mask of zeros and ones that pruning multiplies a weight by.

    >>> is_pruning("head.weight_mask", torch.tensor([0.0, 1.0])), is_pruning("head.weight", torch.tensor([0.0, 1.0]))
    (True, False)
    """
    return len(name) <= LONGEST_NAME and bool(PRUNED.search(name)) and bool(((value == 0) | (value == 1)).all())


def is_mask(value: Tensor) -> bool:
    """Tell whether a constant switches attention scores off."""
    return not bool(torch.isfinite(value).all()) or bool(((value == 0) | (value <= MASKED)).all() & (value != 0).any())


def is_per_channel(value: Tensor) -> bool:
    """Tell whether a constant has one number for every colour channel."""
    return value.numel() <= 4 and is_vector(value)


def is_sinusoidal(value: Tensor) -> bool:
    """Tell whether a table holds sines beside their cosines, as fixed position embeddings do.

    The pairs may be neighbours, or the halves of one to four equal parts of the last axis (one part for each axis of
    the clip). A row of zeros (for a class token) is allowed. Training breaks the identity, so a trained table never
    looks like this.

    >>> angles = torch.arange(6.0)[:, None] / torch.tensor([1.0, 10.0])
    >>> is_sinusoidal(torch.cat([angles.sin(), angles.cos()], -1)), is_sinusoidal(torch.randn(6, 4))
    (True, False)
    """
    if value.dim() < 2 or value.shape[-1] % 2 or not value.numel():
        return False
    rows = value.reshape(-1, value.shape[-1])
    rows = rows[rows.abs().sum(1) > 0]
    if len(rows) < 2 or bool((rows == rows[:1]).all()):
        return False
    squares = rows.double().square()
    pairings = [squares[:, 0::2] + squares[:, 1::2]]
    for parts in PARTS:
        if squares.shape[1] % (2 * parts) == 0:
            halves = squares.reshape(len(squares), parts, 2, -1)
            pairings.append((halves[:, :, 0] + halves[:, :, 1]).flatten(1))
    return any(bool(((total - 1).abs() < 1e-4).all()) for total in pairings)
