"""Every operator of the emulated device: the processor's on the same memory, unless it would cross between devices."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from emulated_device.memory import on_device, on_processor
from emulated_device.traffic import TRAFFIC

NAME = "emulated"
PROCESSOR = torch.device("cpu")
A = torch.ops.aten

# They change what a tensor looks like, not what it holds, and know nothing of devices.
_VIEWS = (A.as_strided, A.view, A._reshape_alias, A.unfold, A.view_as_real, A.view_as_complex)
_NATIVE = frozenset(packet.default for packet in _VIEWS) | {A.set_.source_Storage, A.set_.source_Storage_storage_offset}
# What a processor has to wait for: values that decide what happens next, and results whose size depends on values.
_WAITING = frozenset(
    {
        A._local_scalar_dense.default,
        A.equal.default,
        A.nonzero.default,
        A.masked_select.default,
        A._unique2.default,
        A.unique_dim.default,
        A.unique_consecutive.default,
        A.repeat_interleave.Tensor,
    }
)
_INDEXING = frozenset({A.index.Tensor, A.index_put.default, A.index_put_.default, A._index_put_impl_.default})
# Operators besides those by points that take one number of the processor beside tensors of a GPU.
_TAKES_NUMBERS = frozenset(
    {A.index_put.default, A.index_put_.default, A._index_put_impl_.default, A.fill_.Tensor, A.masked_fill.Tensor}
    | {A.masked_fill_.Tensor, A.copy_.default}
)


class RefusedError(RuntimeError):
    """What a GPU would refuse, or do by a copy that nobody sees."""


def run(op: OpOverload, *args: Any, **kwargs: Any) -> Any:
    """Do what a device does for one operator.

    Raises
    ------
    RefusedError
        Tensors or generators of both devices meet, or values would cross without being told to.
    """
    TRAFFIC.operators += 1
    if op in _NATIVE:
        return op.redispatch(torch._C.DispatchKeySet(torch._C.DispatchKey.CPU), *args, **kwargs)
    if op is A._to_copy.default:
        return _moved(*args, **kwargs)
    if _waits(op, args):
        TRAFFIC.synchronised()
    if op is A._efficientzerotensor.default:
        op = A.zeros.default  # zeros without memory, which forward derivatives start from: here they have some
    if op is A.linalg_lstsq.default:
        kwargs = {**kwargs, "driver": _only_driver(kwargs.get("driver"))}
    made = op(*(_below(op, a) for a in args), **{name: _below(op, a) for name, a in kwargs.items()})
    written = _written(op, args, kwargs)
    return _above(made) if written is None else written


def _below(op: OpOverload, given: Any) -> Any:
    """Return an argument as the processor's operator takes it."""
    if isinstance(given, Tensor):
        if given.device.type == NAME:
            return on_processor(given)
        if given.dim() or not (torch.Tag.pointwise in op.tags or op in _TAKES_NUMBERS):
            raise RefusedError(f"{op}: a {given.device} tensor of shape {tuple(given.shape)} beside those of {NAME}")
        return given
    if isinstance(given, list | tuple):
        return [_below(op, one) for one in given]
    if isinstance(given, torch.device):
        return PROCESSOR
    if isinstance(given, torch.Generator):
        raise RefusedError(f"{op}: expected a generator of {NAME}, found one of {given.device}")
    return given


def _above(made: Any) -> Any:
    if isinstance(made, Tensor):
        return on_device(made)
    return tuple(_above(one) for one in made) if isinstance(made, list | tuple) else made


def _written(op: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return the arguments that an operator writes to and returns; None where what it returns is new."""
    returns = op._schema.returns
    if not returns or returns[0].alias_info is None:
        return None
    if op is A.copy_.default and args[0].device.type != NAME:
        raise RefusedError(f"{op}: values of {NAME} would be copied to {args[0].device} without .to() or .cpu()")
    given = {a.name: args[i] if i < len(args) else kwargs.get(a.name) for i, a in enumerate(op._schema.arguments)}
    at = {frozenset(a.alias_info.before_set): a.name for a in op._schema.arguments if a.alias_info is not None}
    found = tuple(given[at[frozenset(r.alias_info.before_set)]] for r in returns)
    return found[0] if len(found) == 1 else found


def _moved(source: Tensor, **kwargs: Any) -> Tensor:
    """Return a copy on the device that was asked for: the one way from one to the other."""
    to = kwargs.pop("device", None) or source.device
    if to.type == source.device.type:
        return on_device(A._to_copy(on_processor(source), **kwargs))
    if to.type == NAME:
        TRAFFIC.to_device += 1
        return on_device(A._to_copy(source, **{**kwargs, "non_blocking": False}, device=PROCESSOR))
    TRAFFIC.to_processor += 1
    TRAFFIC.synchronised()
    return A._to_copy(on_processor(source), **{**kwargs, "non_blocking": False}, device=PROCESSOR)


def _waits(op: OpOverload, args: tuple[Any, ...]) -> bool:
    if op in _WAITING:
        return True
    if op not in _INDEXING or not any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1]):
        return False
    # One number for all that a mask marks is filled in without counting the marks.
    return op is A.index.Tensor or args[2].numel() > 1


def _only_driver(asked: str | None) -> str:
    if asked not in (None, "gels"):
        raise RefusedError(f"aten.linalg_lstsq: the driver {asked} is the processor's alone")
    return "gels"


def register() -> list[torch.library.Library]:
    """Register `run` for every operator that would not be split into others; the registration lives as what returns."""
    everything, aten = torch.library.Library("_", "IMPL"), torch.library.Library("aten", "IMPL")
    everything.fallback(run, "PrivateUse1")
    everything.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")  # mixed precision is not emulated
    for op in filter(_computes, map(_overload, torch._C._dispatch_get_all_op_names())):
        aten.impl(op, _kernel(op), "PrivateUse1")
    for op, kernel in _RECURRENT.items():
        aten.impl(op, kernel, "AutogradPrivateUse1")
    return [everything, aten]


def _overload(name: str) -> OpOverload | None:
    namespace, _, rest = name.partition("::")
    name, _, overload = rest.partition(".")
    if namespace != "aten" or not hasattr(A, name):
        return None
    return getattr(getattr(A, name), overload or "default", None)


def _computes(op: OpOverload | None) -> bool:
    """Tell whether PyTorch's own kernel for any device would take another way than a GPU's."""
    if op is None or torch.Tag.inplace_view in op.tags:
        return False
    if any(r.alias_info is not None and not r.alias_info.is_write for r in op._schema.returns):
        return False
    has = torch._C._dispatch_has_kernel_for_dispatch_key
    general = ("CompositeExplicitAutograd", "CompositeExplicitAutogradNonFunctional")
    return not has(op.name(), "CompositeImplicitAutograd") and any(has(op.name(), key) for key in general)


def _kernel(op: OpOverload) -> Callable[..., Any]:
    return lambda *args, **kwargs: run(op, *args, **kwargs)


# The fused steps of recurrent layers have kernels for GPUs alone: here they are written out, from their definitions.


def _gru(inputs: Tensor, hidden: Tensor, before: Tensor, b: Tensor | None = None, c: Tensor | None = None) -> Any:
    parts = zip((_plus(inputs, b)).chunk(3, -1), _plus(hidden, c).chunk(3, -1), strict=True)
    (reset, reset_h), (update, update_h), (new, new_h) = parts
    z = (update + update_h).sigmoid()
    made = (new + (reset + reset_h).sigmoid() * new_h).tanh()
    return (before - made) * z + made, before.new_empty(0)


def _lstm(inputs: Tensor, hidden: Tensor, cell: Tensor, b: Tensor | None = None, c: Tensor | None = None) -> Any:
    i, f, g, o = (_plus(inputs, b) + _plus(hidden, c)).chunk(4, -1)
    made = f.sigmoid() * cell + i.sigmoid() * g.tanh()
    return o.sigmoid() * made.tanh(), made, cell.new_empty(0)


def _plus(value: Tensor, bias: Tensor | None) -> Tensor:
    return value if bias is None else value + bias


_RECURRENT = {A._thnn_fused_gru_cell.default: _gru, A._thnn_fused_lstm_cell.default: _lstm}
