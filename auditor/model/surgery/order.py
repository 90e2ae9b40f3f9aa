"""Which modules run, in which order, and on what shapes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True, eq=False)
class ModuleCall:
    """One call of a module without children: its name, the module, and the shape of its first input."""

    name: str
    module: nn.Module
    shape: tuple[int, ...]


def calls_of(network: nn.Module, x: Tensor) -> tuple[ModuleCall, ...]:
    """Run a network once and return the calls of its modules, in order."""
    found: list[ModuleCall] = []
    hooks = []
    for name, module in network.named_modules():
        if not any(module.children()):
            hooks.append(module.register_forward_pre_hook(_noting(found, name)))
    with _removed(hooks), torch.no_grad():
        network(x)
    return tuple(found)


def _noting(found: list[ModuleCall], name: str) -> Callable[[nn.Module, tuple[object, ...]], None]:
    def note(module: nn.Module, inputs: tuple[object, ...]) -> None:
        shape = tuple(inputs[0].shape) if inputs and isinstance(inputs[0], Tensor) else ()
        found.append(ModuleCall(name, module, shape))

    return note


@contextmanager
def _removed(hooks: list[torch.utils.hooks.RemovableHandle]) -> Iterator[None]:
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def put(network: nn.Module, name: str, module: nn.Module) -> None:
    """Put a module in place of the one of that name, wherever the network holds it."""
    old = network.get_submodule(name)
    module.train(old.training)
    # Listed first: the new module may hold the old one.
    places = [(parent, key) for parent in network.modules() for key, child in parent._modules.items() if child is old]
    for parent, key in places:
        setattr(parent, key, module)
