"""Numbers that a forward pass brings to the clip and that its network does not own: neither parameters nor buffers."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import _disable_current_modes

from auditor.model.onnx.parameters.constants import is_mask, is_per_channel, is_sinusoidal, is_uniform

SHOWN = 3
CAST = "aten::_to_copy"  # makes weights of whole numbers; tables of indices never go through it
ARITHMETIC = frozenset(f"aten::{name}{end}" for name in ("mul", "add", "sub", "div", "rsub") for end in ("", "_"))
# Angles of positions are fixed: nobody trains what is read through its sine.
ANGLES = frozenset({"aten::sin", "aten::cos"})
# Scales, shifts and exponents of a formula are fewer; more may be weights in a Python list, unless they are whole, as
# numbers of regions and places are.
FEW = 16


@dataclass(frozen=True, slots=True)
class ForwardConstant:
    """A tensor that forward makes of a list or an array, or takes from a plain attribute.

    Attributes
    ----------
    fixed
        Whether its contents tell that nobody trains it: one number, zeros and ones, sines of positions, a mask.
    colours
        Whether it may be the mean or the deviation of colours.
    trainable
        Whether it asks for a gradient, as a parameter in a plain Python list does.
    whole
        Whether it holds whole numbers only.
    """

    shape: tuple[int, ...]
    fixed: bool = False
    colours: bool = False
    trainable: bool = False
    whole: bool = False

    @classmethod
    def of(cls, value: Tensor) -> "ForwardConstant":
        """Describe a tensor by what it holds."""
        with _unwatched():
            trainable, value = value.requires_grad, value.detach()
            return cls(
                shape=tuple(value.shape),
                fixed=not trainable and _is_fixed(value),
                colours=not trainable and is_per_channel(value),
                trainable=trainable,
                whole=bool((value == value.round()).all()),
            )

    @property
    def numbers(self) -> int:
        """How many numbers it holds."""
        return torch.Size(self.shape).numel()


class ForwardConstants:
    """Follows tensors that come from elsewhere, operation by operation, until they meet the clip.

    `own` holds parameters, buffers, the clip and what else is known; what operations make of these, or of nothing, is
    known too. Tensors are told apart by what they hold, as a list may become a tensor anew at every step of time.
    """

    def __init__(self, own: Iterable[Tensor]) -> None:
        self._met: dict[str, ForwardConstant] = {}
        self._single: set[float | str] = set()
        self._found: dict[str, ForwardConstant] = {}
        self._known: dict[int, StorageWeakRef] = {}
        self._made_of: dict[int, tuple[StorageWeakRef, frozenset[str]]] = {}
        self._known_sparse: set[str] = set()
        for tensor in own:
            if tensor.layout is torch.strided:
                self._know(tensor)
            else:
                self._known_sparse.add(digest(_entries(tensor)))

    @property
    def met(self) -> tuple[ForwardConstant, ...]:
        """What met the clip so far; single numbers count where they are many, as one tensor."""
        if len(self._single) <= FEW:
            return tuple(self._met.values())
        return (*self._met.values(), ForwardConstant((len(self._single),)))

    def follow(
        self,
        operator: str,
        operands: Sequence[Tensor],
        numbers: Iterable[Any],
        outputs: Sequence[Tensor],
        *,
        clip: bool,
        pixels: bool,
    ) -> None:
        """Note what an operation reads; `clip` where it reads the clip too, `pixels` where that is still pixels."""
        if clip and operator in ARITHMETIC:
            self._single.update(value for value in numbers if isinstance(value, float) and not value.is_integer())
        origins: set[str] = set()
        floats = any(value.is_floating_point() for value in outputs)
        for value in operands:
            behind = self._origins(value)
            if value.is_floating_point() or operator == CAST or not floats:
                origins |= behind
        for key in origins if clip else ():
            self._meet(key, pixels)
        for value in outputs:
            if value.layout is not torch.strided:
                continue
            self._know(value)
            if origins and not clip and operator not in ANGLES:
                self._carry(value, origins)

    def _origins(self, value: Tensor) -> frozenset[str]:
        if value.layout is not torch.strided:
            key = digest(_entries(value))
            if key in self._known_sparse:
                return frozenset()
            self._found.setdefault(key, ForwardConstant.of(_entries(value)))
            return frozenset([key])
        place = value.untyped_storage()._cdata
        if place in self._made_of:
            return self._made_of[place][1]
        if place in self._known or value.dtype is torch.bool or value.is_complex() or not value.numel():
            return frozenset()
        key = digest(value)
        if key not in self._found:
            self._found[key] = ForwardConstant.of(value)
        self._carry(value, {key})
        return frozenset([key])

    def _meet(self, key: str, pixels: bool) -> None:
        found = self._found[key]
        if found.numbers == 1 and not found.trainable:
            self._single.update(() if found.whole else (key,))
            return
        # Once told to be no normalisation of colours, it stays so.
        fixed = found.fixed or (found.colours and pixels and (key not in self._met or self._met[key].fixed))
        self._met[key] = replace(found, fixed=fixed)

    def _know(self, value: Tensor) -> None:
        storage = value.untyped_storage()
        if storage._cdata not in self._known:
            self._known[storage._cdata] = StorageWeakRef(storage)  # type: ignore[no-untyped-call]

    def _carry(self, value: Tensor, origins: set[str]) -> None:
        storage = value.untyped_storage()
        if storage._cdata not in self._made_of:
            self._made_of[storage._cdata] = (StorageWeakRef(storage), frozenset(origins))  # type: ignore[no-untyped-call]
            return
        reference, before = self._made_of[storage._cdata]
        self._made_of[storage._cdata] = (reference, before | origins)


@contextmanager
def _unwatched() -> Iterator[None]:
    """Run operations that are no part of the forward pass."""
    with _disable_current_modes(), torch._C.DisableTorchFunction(), torch.no_grad():
        yield


def digest(value: Tensor) -> str:
    """Return what tells tensors apart by what they hold."""
    with _unwatched():
        content = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        return f"{tuple(value.shape)} {hashlib.sha256(torch._C.TensorBase.numpy(content).tobytes()).hexdigest()}"


def _entries(value: Tensor) -> Tensor:
    """Return the numbers that a sparse tensor keeps, an adjacency for instance."""
    with _unwatched():
        return value.detach().to_dense().reshape(-1)


def _is_fixed(value: Tensor) -> bool:
    flags = bool(((value == 0) | (value == 1)).all())
    return flags or is_uniform(value) or is_mask(value) or is_sinusoidal(value)


def told_of(constants: Sequence[ForwardConstant]) -> tuple[str, ...]:
    """Return what is to be said of numbers that a network reads and does not own."""
    doubtful = [constant for constant in constants if not constant.fixed]
    if not doubtful:
        return ()
    shapes = ", ".join("x".join(map(str, constant.shape)) or "1" for constant in doubtful[:SHOWN])
    more = f" and {len(doubtful) - SHOWN} more" if len(doubtful) > SHOWN else ""
    count = sum(constant.numbers for constant in doubtful)
    asked = any(constant.trainable for constant in doubtful)
    gradient = " Some ask for a gradient, as parameters in a plain Python list do." if asked else ""
    return (
        f"Forward reads {count:,} numbers that are neither parameters nor buffers (lists, arrays or plain tensors, "
        f"{shapes}{more}).{gradient} If clients train them, their gradients are missing here: make them parameters "
        "(nn.Parameter, nn.ParameterList) if they are trained, buffers (register_buffer) if they are fixed.",
    )
