"""What was computed of a clip or a gallery, kept for equal ones: audits ask about the same ones again and again."""

import functools
import hashlib
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from torch import Tensor

_Made = TypeVar("_Made")
_Key = tuple[tuple[int, ...], str, bytes]


class Remembered(Generic[_Made]):
    """A function of one tensor that is computed once for equal content; the last `most` values are kept.

    What is returned is shared: nobody may change it.
    """

    def __init__(self, make: Callable[[Tensor], _Made], most: int) -> None:
        self._make, self._most = make, most
        self._made: OrderedDict[_Key, _Made] = OrderedDict()
        # The content of a tensor that is still there and was not written to need not be read again.
        self._keys: dict[int, tuple[weakref.ref[Tensor], int, _Key]] = {}

    def __call__(self, tensor: Tensor) -> _Made:
        """Return what the function makes of `tensor`."""
        key = self._key(tensor)
        if key not in self._made:
            self._made[key] = self._make(tensor)
        self._made.move_to_end(key)
        if len(self._made) > self._most:
            self._made.popitem(last=False)
        return self._made[key]

    def _key(self, tensor: Tensor) -> _Key:
        known = self._keys.get(id(tensor))
        if known is not None and known[0]() is tensor and known[1] == tensor._version:
            return known[2]
        values = tensor.detach().cpu().contiguous()
        key = (tuple(values.shape), str(values.dtype), hashlib.blake2b(values.numpy().data).digest())
        gone = functools.partial(self._forget, id(tensor))
        self._keys[id(tensor)] = (weakref.ref(tensor, gone), tensor._version, key)
        return key

    def _forget(self, number: int, _: weakref.ref[Tensor]) -> None:
        self._keys.pop(number, None)
