"""Where tensors are made: beside those that a computation reads, with the same draws on every device."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_MAKES = frozenset(
    {
        torch.arange,
        torch.empty,
        torch.eye,
        torch.fft.fftfreq,
        torch.fft.rfftfreq,
        torch.full,
        torch.linspace,
        torch.logspace,
        torch.ones,
        torch.rand,
        torch.randint,
        torch.randn,
        torch.randperm,
        torch.scalar_tensor,
        torch.tensor,
        torch.tril_indices,
        torch.triu_indices,
        torch.zeros,
    }
)


def placed(device: torch.device) -> AbstractContextManager[object]:
    """Make tensors on a device, while active, wherever code names none.

    Unlike PyTorch's own `with device:`, what a generator draws is drawn on the processor and moved: the same seed gives
    the same values everywhere.
    """
    return nullcontext() if device.type == "cpu" else _Placed(device)


@contextmanager
def as_written() -> Iterator[None]:
    """Let a model make its tensors, while active, where its own code says."""
    before, _Placed.paused = _Placed.paused, True
    try:
        yield
    finally:
        _Placed.paused = before


def random_state_kept(device: torch.device, enabled: bool = True) -> AbstractContextManager[None]:
    """Leave PyTorch's random state as it was, on the processor and on the device."""
    if device.type in ("cpu", "mps"):  # PyTorch forks no generator of MPS
        return torch.random.fork_rng(devices=[], enabled=enabled)
    return torch.random.fork_rng(devices=[device], device_type=device.type, enabled=enabled)


class _Placed(TorchFunctionMode):
    paused = False

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self._device = device

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Name the device for those that make tensors of shapes and numbers; leave everything else alone."""
        given = kwargs or {}
        named = given.get("device") is not None or (args and isinstance(args[0], Tensor))
        if func not in _MAKES or named or _Placed.paused:
            return func(*args, **given)
        if given.get("generator") is not None:
            return func(*args, **given).to(self._device)
        return func(*args, **{**given, "device": self._device})
