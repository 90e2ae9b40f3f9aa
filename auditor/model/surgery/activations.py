"""Another activation everywhere, and another share of dropout."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from auditor.model.surgery.order import put
from auditor.model.surgery.refusal import refused

ACTIVATIONS: Mapping[str, tuple[type[nn.Module], Callable[..., Tensor]]] = {
    "relu": (nn.ReLU, F.relu),
    "gelu": (nn.GELU, F.gelu),
    "silu": (nn.SiLU, F.silu),
    "tanh": (nn.Tanh, torch.tanh),
    "elu": (nn.ELU, F.elu),
    "leaky-relu": (nn.LeakyReLU, F.leaky_relu),
    "softplus": (nn.Softplus, F.softplus),
}
# Sigmoids stand in gates and outputs, and stay.
_MODULES = (*(kind for kind, _ in ACTIVATIONS.values()), nn.ReLU6, nn.Hardswish, nn.Mish, nn.CELU, nn.SELU)
_FUNCTIONS = {
    *(function for _, function in ACTIVATIONS.values()),
    torch.relu, torch.relu_, Tensor.relu, Tensor.relu_, F.relu6, F.hardswish, F.mish, Tensor.tanh, Tensor.tanh_,
}  # fmt: skip
_LAYERS = (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)


def change_activation(network: nn.Module, value: str, x: Tensor) -> str:
    """Replace every activation that is a module, or the function of a transformer layer of PyTorch.

    Raises
    ------
    UsageError
        Forward calls an activation by itself, or the network has none.
    """
    change = f"activation={value}"
    kind, function = ACTIVATIONS[value]
    alone = _Called(_FUNCTIONS - {function})
    old = [name for name, module in network.named_modules() if isinstance(module, _MODULES)]
    layers = [module for module in network.modules() if isinstance(module, _LAYERS)]
    if not old and not layers:
        raise refused(change, "no activation of the network is a module")
    if any(isinstance(module, nn.RNNBase) for module in network.modules()):
        raise refused(change, "a recurrent layer of PyTorch fixes its activations")
    for name in old:
        put(network, name, kind())
    for layer in layers:
        layer.activation = function
        layer.activation_relu_or_gelu = {"relu": 1, "gelu": 2}.get(value, 0)
    with alone, torch.no_grad():
        network(x)
    if alone.names:
        raise refused(change, f"forward calls {alone.names[0]} by itself", "make it a module of the network")
    return f"{len(old) + len(layers)} activations are {value}"


class _Called(TorchFunctionMode):
    """Notes which of some functions are called."""

    def __init__(self, functions: set[Any]) -> None:
        super().__init__()
        self._functions = functions
        self.names: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in self._functions:
            self.names.append(getattr(func, "__name__", str(func)))
        return func(*args, **(kwargs or {}))


def change_dropout(network: nn.Module, value: str, x: Tensor) -> str:
    """Set the share that every dropout module drops.

    Raises
    ------
    UsageError
        There is none.
    """
    modules = [m for m in network.modules() if isinstance(m, nn.modules.dropout._DropoutNd)]
    if not modules:
        raise refused(f"dropout={value}", "the network has no dropout module")
    for module in modules:
        module.p = float(value)
    return f"{len(modules)} dropout modules drop {float(value):g}; it counts with --dropout on"
