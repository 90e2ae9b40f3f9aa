"""Records as plain JSON and tensors, and back: what a journal writes, without pickles."""

import enum
import importlib
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

_PACKAGE = "auditor."


def plain(value: object, tensors: dict[str, Tensor]) -> Any:
    """Return a value as JSON holds it; its tensors are added to `tensors`, by the name that stands in their place.

    Raises
    ------
    TypeError
        It holds something that is neither a record, nor a tensor, nor plain.
    """
    if isinstance(value, enum.Enum):
        return {"enum": _place(type(value)), "name": value.name}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach()
        return {"tensor": name, "on": value.device.type}
    if is_dataclass(value) and not isinstance(value, type):
        held = {f.name: plain(getattr(value, f.name), tensors) for f in fields(value) if f.init}
        return {"record": _place(type(value)), "fields": held}
    if isinstance(value, tuple | list | frozenset) and not hasattr(value, "_fields"):
        kind = next(k for k in (tuple, list, frozenset) if isinstance(value, k))
        return {kind.__name__: [plain(v, tensors) for v in value]}
    if isinstance(value, Mapping):
        return {"mapping": [[plain(k, tensors), plain(v, tensors)] for k, v in value.items()]}
    raise TypeError(f"a journal cannot keep a {type(value).__name__}")


def whole(form: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Return the value that `plain` made `form` of.

    Raises
    ------
    ValueError, LookupError, TypeError, AttributeError, ImportError
        It is damaged, or of a program that had other records.
    """
    if not isinstance(form, dict):
        return form
    match form:
        case {"float": number}:
            return float(number)
        case {"tensor": name, "on": device}:
            return tensors[name].to(torch.device(device))
        case {"enum": place, "name": name}:
            return _class(place, enum.Enum)[name]
        case {"record": place, "fields": held}:
            return _class(place, object)(**{k: whole(v, tensors) for k, v in held.items()})
        case {"tuple": items}:
            return tuple(whole(v, tensors) for v in items)
        case {"list": items}:
            return [whole(v, tensors) for v in items]
        case {"frozenset": items}:
            return frozenset(whole(v, tensors) for v in items)
        case {"mapping": items}:
            return {whole(k, tensors): whole(v, tensors) for k, v in items}
    raise ValueError("not a form that a journal writes")


def _place(kind: type) -> str:
    if not kind.__module__.startswith(_PACKAGE):
        raise TypeError(f"a journal cannot keep a {kind.__name__}")
    return f"{kind.__module__}:{kind.__qualname__}"


def _class(place: str, base: type) -> Any:
    """Return a class of this program; a journal names no other."""
    module, _, name = place.partition(":")
    if not module.startswith(_PACKAGE):
        raise ValueError(f"{place} is no record of this program")
    kind = getattr(importlib.import_module(module), name)
    if not (isinstance(kind, type) and issubclass(kind, base) and (is_dataclass(kind) or base is enum.Enum)):
        raise ValueError(f"{place} is no record of this program")
    return kind
