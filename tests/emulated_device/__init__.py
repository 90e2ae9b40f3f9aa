"""A second device that every test run has: it computes on the processor, and is as strict as a GPU or stricter."""

import pytest
import torch
from torch.utils import backend_registration

from emulated_device.kernels import NAME, RefusedError, register
from emulated_device.memory import on_device, on_processor
from emulated_device.traffic import TRAFFIC, Traffic, counted

__all__ = ["AVAILABLE", "DEVICES", "NAME", "TRAFFIC", "RefusedError", "Traffic", "counted", "device"]

# A process has one kind of accelerator: beside a backend of Python's, backward passes on CUDA end in an assertion of
# PyTorch's (2.11, engine.cpp, streams). Where there is a GPU, tests that need the emulated device are skipped.
AVAILABLE = not torch.cuda.is_available()
_SKIPPED = "a GPU is here, which takes its place"
# What every test of other devices runs on: the emulated one, or a GPU where there is one.
DEVICES = (
    pytest.param(NAME, marks=pytest.mark.skipif(not AVAILABLE, reason=_SKIPPED)),
    pytest.param("cuda", marks=pytest.mark.gpu),
)


class _Module(backend_registration._DummyBackendModule):
    """What `torch.emulated` offers: the random state is the processor's, of which all draws are."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        """`torch.autocast` asks; it changes nothing here."""
        return [torch.bfloat16, torch.float16]

    def get_rng_state(self, device: object = None) -> torch.Tensor:
        return torch.random.get_rng_state()

    def set_rng_state(self, state: torch.Tensor, device: object = None) -> None:
        torch.random.set_rng_state(state)


def _installed(threads: bool) -> list[torch.library.Library]:
    if not threads:
        # The first backward pass makes a thread for every device that is known by then, and a process with such threads
        # cannot be forked. Without them backward passes run where they were asked for.
        torch.ones(1, requires_grad=True).sum().backward()
        torch.autograd.set_multithreading_enabled(False)
    backend_registration._setup_privateuseone_for_python_backend(NAME, _Module())
    clone = torch.UntypedStorage.clone

    def cloned(storage: torch.UntypedStorage) -> torch.UntypedStorage:
        """PyTorch clones storages by an allocator of the device, and this one has none."""
        if storage.device.type != NAME:
            return clone(storage)
        seen = torch.empty(0, dtype=torch.uint8, device=NAME).set_(storage)
        return on_device(on_processor(seen).clone()).untyped_storage()

    torch.UntypedStorage.clone = cloned
    return register()


def device(threads: bool = False) -> torch.device:
    """Return the emulated device; the first call makes it known to PyTorch, for as long as the process lives.

    With `threads` in that call backward passes run in a thread of the device, as on a GPU, where the modes of this one
    do not reach; nothing may have run backwards before, and the process cannot be forked.
    """
    if not AVAILABLE:
        pytest.skip(_SKIPPED, allow_module_level=True)
    if not _known:
        _known.extend(_installed(threads))
    return torch.device(NAME)


_known: list[torch.library.Library] = []
