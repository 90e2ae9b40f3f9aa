"""Networks as they are beneath what speeds their training up: compiled, spread over devices, or checkpointed."""

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch
import torch.utils.checkpoint
from torch import nn

PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)


def unwrapped(network: nn.Module) -> tuple[nn.Module, tuple[str, ...]]:
    """Return a network without torch.compile and data parallelism, which compute the same, and sentences about it.

    Compiled code has no second derivatives, and compiling takes minutes.
    """
    found: list[str] = []
    network = _inner(network, found)
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            inner = _inner(child, found)
            if inner is not child:
                setattr(module, name, inner)
        plain = getattr(module.forward, "_torchdynamo_orig_callable", None)
        if plain is not None:
            module.forward = plain if inspect.ismethod(plain) else MethodType(plain, module)
            found.append("torch.compile")
        if getattr(module, "_compiled_call_impl", None) is not None:
            module._compiled_call_impl = None
            found.append("torch.compile")
    notes = [f"Taken without {what}, which computes the same." for what in dict.fromkeys(found)]
    return network, tuple(notes)


def _inner(module: nn.Module, found: list[str]) -> nn.Module:
    while True:
        compiled = module._modules.get("_orig_mod") if type(module).__name__ == "OptimizedModule" else None
        if compiled is not None:
            found.append("torch.compile")
            module = compiled
        elif isinstance(module, PARALLEL):
            found.append(type(module).__name__)
            module = module.module
        else:
            return module


@contextmanager
def uncompiled() -> Iterator[None]:
    """Let what forward compiles, or calls compiled, run as plain Python while active: values are the same."""
    kept, torch.compile = torch.compile, _as_it_is  # type: ignore[assignment]
    try:
        # The compiler takes seconds to import, and who has not imported it has compiled nothing.
        if "torch._dynamo" not in sys.modules:
            yield
            return
        with torch.compiler.set_stance("force_eager"):
            yield
    finally:
        torch.compile = kept


def _as_it_is(function: Any = None, **options: Any) -> Any:
    """Stand in for `torch.compile`, called or as a decorator with options."""
    return (lambda given: given) if function is None else function


class _Plain:
    """Stands in for torch's reentrant checkpointing, which has no second derivatives."""

    @staticmethod
    def apply(function: Callable[..., Any], _: bool, *arguments: Any) -> Any:
        """Call a function and keep what its gradient needs."""
        return function(*arguments)


@contextmanager
def without_checkpoints() -> Iterator[None]:
    """Let parts of networks that would be computed twice to save memory run once: values and gradients are the same."""
    kept = torch.utils.checkpoint.CheckpointFunction
    torch.utils.checkpoint.CheckpointFunction = _Plain  # type: ignore[assignment,misc]
    try:
        yield
    finally:
        torch.utils.checkpoint.CheckpointFunction = kept  # type: ignore[misc]
