"""The JSON form of a record as a msgspec type, made from the record: what validation and the JSON Schema read."""

import enum
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import is_dataclass
from functools import cache, reduce
from operator import or_
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

from auditor.results.declare import Form
from auditor.results.encode import form_of, is_later, written

LARGEST = 1e300
# A finite number of a size that can be drawn.
Real = Annotated[float, msgspec.Meta(gt=-LARGEST, lt=LARGEST)]
Count = Annotated[int, msgspec.Meta(ge=0)]
Cell = bool | int | Real | str | None


def wire(kind: Any) -> type[msgspec.Struct]:
    """Return the struct that a record is in JSON; what came later may be absent, and other keys are welcome."""
    return _struct(kind)


@cache
def _struct(kind: Any) -> type[msgspec.Struct]:
    known: list[Any] = [
        (name, _type(hint) | msgspec.UnsetType, msgspec.UNSET) if is_later(hint) else (name, _type(hint))
        for name, hint in written(kind).items()
    ]
    return msgspec.defstruct(kind.__name__, known, kw_only=True)


def _type(hint: Any) -> Any:
    bare, form = form_of(hint)
    if form.cell:
        return Cell
    if form.written_as is not None:
        return wire(form.written_as)
    if form.row:
        return _fixed(written(bare).values())
    if bare is float:
        return _number(form)
    if get_origin(bare) in (Union, types.UnionType):
        return reduce(or_, (_type(choice) for choice in get_args(bare)))
    if get_origin(bare) is Literal:
        return bare
    if get_origin(bare) in (tuple, list, Sequence):
        return _sequence(get_args(bare))
    if isinstance(get_origin(bare), type) and issubclass(get_origin(bare), Mapping):
        return _of(dict, str, _type(get_args(bare)[1]))
    return _simple(bare)


def _simple(bare: Any) -> Any:
    if is_dataclass(bare):
        return wire(bare)
    if isinstance(bare, type) and issubclass(bare, enum.Enum):
        return _enumeration(bare)
    if bare is int:
        return Count
    return bare


def _number(form: Form) -> Any:
    found: Any = Real
    if form.infinite:
        found = found | Literal["inf", "-inf"]
    return found | None if form.unmeasured else found


def _sequence(items: tuple[Any, ...]) -> Any:
    if len(items) == 1 or items[1] is ...:
        return _of(list, _type(items[0]))
    return _fixed(items)


def _fixed(items: Iterable[Any]) -> Any:
    return _of(tuple, *(_type(item) for item in items))


def _of(container: Any, *items: Any) -> Any:
    return types.GenericAlias(container, items)


@cache
def _enumeration(kind: Any) -> Any:
    """Return what an enumeration is written as: its name, and what it says where that is a sentence."""
    names: Any = Literal.__getitem__(tuple(member.name for member in kind))
    if not all(isinstance(member.value, str) for member in kind):
        return names
    return msgspec.defstruct(kind.__name__, [("code", str), ("text", str)])
