"""After a change: linear layers behind it that read another number of features are made anew."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from auditor.model.sandbox.user_file import in_a_line
from auditor.model.surgery.order import put
from auditor.model.surgery.refusal import refused

# A change of what one layer returns reaches the layers that read it, and these return what they did.
_MOST = 16


class _Misfit(Exception):
    """A linear layer whose input has another number of features than its weight."""

    def __init__(self, name: str, module: nn.Linear, features: int, rows: int) -> None:
        super().__init__(name)
        self.name, self.module, self.features, self.rows = name, module, features, rows


def refit(network: nn.Module, x: Tensor, change: str) -> tuple[str, ...]:
    """Run a changed network, and draw anew each linear layer that reads a flattened feature map of another size.

    Return the names of the layers that were made anew.

    Raises
    ------
    UsageError
        It does not run: something else depends on the sizes.
    """
    made: list[str] = []
    for _ in range(_MOST):
        misfit = _first_misfit(network, x, change)
        if misfit is None:
            return tuple(made)
        if misfit.rows > len(x):
            raise refused(change, f"{misfit.name} reads tokens, whose width is fixed")
        bias = misfit.module.bias is not None
        put(network, misfit.name, nn.Linear(misfit.features, misfit.module.out_features, bias=bias))
        made.append(misfit.name)
    raise refused(change, "too many layers depend on the sizes of feature maps")


def _first_misfit(network: nn.Module, x: Tensor, change: str) -> _Misfit | None:
    hooks = [
        module.register_forward_pre_hook(_checking(name))
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear)
    ]
    try:
        with torch.no_grad():
            network(x)
    except _Misfit as misfit:
        return misfit
    except Exception as error:
        raise refused(change, f"the network no longer runs ({in_a_line(error)})") from error
    finally:
        for hook in hooks:
            hook.remove()
    return None


def _checking(name: str) -> Callable[[nn.Linear, tuple[Tensor, ...]], None]:
    def check(module: nn.Linear, inputs: tuple[Tensor, ...]) -> None:
        given = inputs[0]
        if given.shape[-1] != module.in_features:
            raise _Misfit(name, module, given.shape[-1], given.shape[:-1].numel())

    return check
