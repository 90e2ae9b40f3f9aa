"""A network seen through another: the names of its parameters stay its own."""

import copy
from collections.abc import Callable
from typing import Any

from torch import nn


class Inner(nn.Module):
    """Another network's parameters, buffers and modules under their own names, to be called in another way.

    Parameters
    ----------
    inner
        The network; its tables of parameters, buffers and modules are shared.
    """

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        object.__setattr__(self, "_inner", inner)
        self._share()

    def _share(self) -> None:
        self._parameters = self.inner._parameters
        self._buffers = self.inner._buffers
        self._modules = self.inner._modules

    @property
    def inner(self) -> nn.Module:
        """The network itself."""
        inner = self.__dict__["_inner"]
        assert isinstance(inner, nn.Module)
        return inner

    def train(self, mode: bool = True) -> "Inner":
        """Set the mode of the network too."""
        self.inner.train(mode)
        self.training = mode
        return self

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> "Inner":
        self.inner._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "Inner":
        twin = self.__class__.__new__(self.__class__)
        nn.Module.__init__(twin)
        own = ("_inner", "_parameters", "_buffers", "_modules")
        for name, value in self.__dict__.items():
            if name not in own:
                object.__setattr__(twin, name, copy.deepcopy(value, memo))
        object.__setattr__(twin, "_inner", copy.deepcopy(self.inner, memo))
        twin._share()
        return twin


class Archived(Inner):
    """A network out of an archive, whose BatchNorm is no torch module: it is switched here, where it can be at all.

    Attributes
    ----------
    batch_statistics
        True while BatchNorm uses the statistics of the batch.
    switchable
        False where the archive fixes the mode of its BatchNorm.
    parts
        The batch that the archive insists on; None where it takes any.
    """

    batch_statistics: bool = False
    switchable: bool = True
    parts: int | None = None
