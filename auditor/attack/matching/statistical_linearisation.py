"""Rectifiers as they look to someone who knows their input only up to a Gaussian error."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from auditor.attack.matching.surrogate_gradient import RELUS, RELUS_IN_PLACE

_LEAKY = {F.leaky_relu, F.leaky_relu_}
_IN_PLACE = {*RELUS_IN_PLACE, F.leaky_relu_}


def smooth_relu(z: Tensor, width: float) -> Tensor:
    """E[max(0, z + width n)] for a standard normal n: z Phi(z / width) + width phi(z / width)."""
    u = z / width
    density = torch.exp(-0.5 * u.square()) / math.sqrt(2.0 * math.pi)
    return z * torch.special.ndtr(u) + width * density


class SmoothRectifiers(TorchFunctionMode):
    """While active, ReLU and leaky ReLU are replaced by their expectation under a Gaussian error of their input.

    The error's deviation is `width` times that of the layer's values. Its slope is the probability that a unit is
    active: what a linear model of the unit should use (statistical linearisation, Gelb 1974, section 6.2).
    """

    def __init__(self, width: float) -> None:
        super().__init__()
        self.width = width

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Replace rectifiers, leave everything else alone."""
        given = kwargs or {}
        if func not in RELUS and func not in _LEAKY:
            return func(*args, **given)
        z = args[0] if args else given["input"]
        slope = (args[1] if len(args) > 1 else given.get("negative_slope", 0.01)) if func in _LEAKY else 0.0
        width = self.width * float(z.detach().std())
        if not width > 0.0:
            return func(*args, **given)
        smooth = smooth_relu(z.clone(), width)
        made = smooth if slope == 0.0 else slope * z + (1.0 - slope) * smooth
        return z.copy_(made) if func in _IN_PLACE or given.get("inplace", False) else made
