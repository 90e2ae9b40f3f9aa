"""What stands before the head: an average over time and space, or all positions flattened."""

from typing import Any

from torch import Tensor, nn

from auditor.model.surgery.order import ModuleCall, calls_of, put
from auditor.model.surgery.refit import refit
from auditor.model.surgery.refusal import refused

_POOLS = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
_MODULE = "make it a module of the network (nn.AdaptiveAvgPool3d, nn.Flatten)"


def change_pooling(network: nn.Module, value: str, x: Tensor) -> str:
    """Flatten where the network averages before its head, or average where it flattens; the head is drawn anew.

    Raises
    ------
    UsageError
        The network does so already, or no module tells where it does.
    """
    change = f"pooling={value}"
    before_head = _before_head(calls_of(network, x), change)
    pool = next((c for c in before_head if isinstance(c.module, _POOLS) and _to_one(c.module)), None)
    flat = next((c for c in before_head if isinstance(c.module, nn.Flatten) and _positions(c) > 1), None)
    if value == "flatten":
        if pool is None:
            raise refused(change, *(("it flattens already",) if flat else ("it averages by no module", _MODULE)))
        put(network, pool.name, nn.Identity())
    else:
        if flat is None:
            raise refused(change, *(("it averages already",) if pool else ("it flattens by no module", _MODULE)))
        average = _POOLS[len(flat.shape) - 3](1)
        put(network, flat.name, nn.Sequential(average, flat.module))
    made = refit(network, x, change)
    if not made:
        raise refused(change, "no head reads what is pooled", "compare by --vary")
    return f"{value} before {', '.join(made)}, drawn anew"


def _before_head(calls: tuple[ModuleCall, ...], change: str) -> list[ModuleCall]:
    """Return the calls between the last convolution and the linear layer behind it, the last first."""
    convolutions = [i for i, c in enumerate(calls) if isinstance(c.module, nn.modules.conv._ConvNd)]
    start = convolutions[-1] if convolutions else None
    end = next((i for i, c in enumerate(calls) if start is not None and i > start and _is_linear(c)), None)
    if start is None or end is None:
        raise refused(change, "no linear head stands behind the last convolution")
    return list(reversed(calls[start + 1 : end]))


def _is_linear(call: ModuleCall) -> bool:
    return isinstance(call.module, nn.Linear)


def _to_one(pool: nn.Module) -> bool:
    size: Any = pool.output_size
    return all(s == 1 for s in size) if isinstance(size, tuple) else bool(size == 1)


def _positions(call: ModuleCall) -> int:
    count = 1
    for size in call.shape[2:]:
        count *= size
    return count
