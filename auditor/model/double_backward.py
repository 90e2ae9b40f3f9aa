"""Second derivatives where torch has none: the same functions written with operations that have them."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from auditor.model.onnx.operators.activation import hard_sigmoid, hard_swish


class HardSigmoid(nn.Module):
    """`nn.Hardsigmoid` from clamp."""

    def forward(self, x: Tensor) -> Tensor:
        """Return max(0, min(1, x / 6 + 1 / 2))."""
        return hard_sigmoid(x)


class HardSwish(nn.Module):
    """`nn.Hardswish` from clamp."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x times its hard sigmoid."""
        return hard_swish(x)


MODULES: Mapping[type[nn.Module], type[nn.Module]] = {nn.Hardsigmoid: HardSigmoid, nn.Hardswish: HardSwish}


def distances(a: Tensor, b: Tensor, p: float = 2.0, *_: Any, **__: Any) -> Tensor:
    """Return `torch.cdist` from vector norms."""
    return torch.linalg.vector_norm(a.unsqueeze(-2) - b.unsqueeze(-3), p, -1)


FUNCTIONS: Mapping[Callable[..., Any], Callable[..., Any]] = {
    F.hardsigmoid: lambda x, inplace=False: hard_sigmoid(x),
    F.hardswish: lambda x, inplace=False: hard_swish(x),
    torch.cdist: distances,
}
# What the functions above look like to a dispatch mode.
NEEDED_FOR = ("aten::hardsigmoid", "aten::hardsigmoid_", "aten::hardswish", "aten::hardswish_", "aten::_cdist_forward")


def swap_modules(module: nn.Module) -> None:
    """Replace, in place, the submodules whose functions have no second derivative."""
    for name, child in module.named_children():
        if type(child) in MODULES:
            setattr(module, name, MODULES[type(child)]())
        else:
            swap_modules(child)


class Substitutes(TorchFunctionMode):
    """While active, calls of functions without second derivative go to their substitutes."""

    def __torch_function__(self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the substitute, if there is one."""
        return FUNCTIONS.get(function, function)(*args, **(kwargs or {}))
