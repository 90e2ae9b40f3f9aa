"""Records as plain JSON values, by the types of their fields."""

import enum
import math
import types
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from auditor.results.declare import Form, derived
from auditor.text import printable

PLAIN = Form()
_LONGEST = 10_000


def document(record: Any) -> dict[str, Any]:
    """Return a record as plain values: six significant digits, infinities as words, NaN as null, texts made inert."""
    return {name: encode(value_of(record, name), hint) for name, hint in written(type(record)).items()}


def value_of(record: Any, name: str) -> Any:
    """Return the value of one written field."""
    return getattr(record, name)


def written(kind: Any) -> Mapping[str, Any]:
    """Return every name that a record is written with, and the type of its value: fields, then what is derived."""
    return _written(kind)


@cache
def _written(kind: Any) -> Mapping[str, Any]:
    hints = get_type_hints(kind, include_extras=True)
    found = {f.name: hints[f.name] for f in fields(kind)}
    return found | {name: get_type_hints(get, include_extras=True)["return"] for name, get in _derived(kind)}


def _derived(kind: type[Any]) -> Iterator[tuple[str, Any]]:
    for base in reversed(kind.__mro__):
        for name, value in vars(base).items():
            if isinstance(value, derived):
                yield name, value.fget


def form_of(hint: Any) -> tuple[Any, Form]:
    """Return a type without its annotation, and the form that the annotation gives it."""
    if get_origin(hint) is not Annotated:
        return hint, PLAIN
    bare, *marks = get_args(hint)
    return bare, next((mark for mark in marks if isinstance(mark, Form) and not mark.later), PLAIN)


def is_later(hint: Any) -> bool:
    """Tell whether older documents lack a field of this type."""
    return get_origin(hint) is Annotated and any(isinstance(m, Form) and m.later for m in get_args(hint)[1:])


def encode(value: Any, hint: Any) -> Any:
    """Return one value as JSON knows it."""
    bare, form = form_of(hint)
    if value is None or isinstance(value, bool):
        return value
    if get_origin(bare) in (Union, types.UnionType):
        return _of_union(value, get_args(bare), form)
    if form.row:
        return list(document(value).values())
    if is_dataclass(value):
        return document(value)
    if isinstance(value, enum.Enum):
        return {"code": value.name, "text": value.value} if isinstance(value.value, str) else value.name
    if isinstance(value, str):
        return printable(value, form.cap or _LONGEST)
    if isinstance(value, float):
        return number(value, form)
    if isinstance(value, Mapping):
        return _mapping(value, get_args(bare))
    if isinstance(value, list | tuple):
        return _sequence(value, get_args(bare))
    return value


def _of_union(value: Any, choices: tuple[Any, ...], form: Form) -> Any:
    """Encode by the first choice that the value fits; what fits none is encoded by its class alone."""
    chosen = next((choice for choice in choices if _fits(value, form_of(choice)[0])), Any)
    return encode(value, chosen if form is PLAIN else Annotated[form_of(chosen)[0], form])


def _fits(value: Any, bare: Any) -> bool:
    kind = get_origin(bare) or bare
    if kind is Any:
        return not isinstance(value, list | tuple | Mapping)
    if kind is tuple:
        return isinstance(value, list | tuple)
    return isinstance(kind, type) and isinstance(value, kind)


def _mapping(value: Mapping[Any, Any], hints: tuple[Any, ...]) -> dict[str, Any]:
    key, item = hints or (Any, Any)
    cap = form_of(key)[1].cap or _LONGEST
    return {printable(str(k), cap): encode(v, item) for k, v in value.items()}


def _sequence(value: list[Any] | tuple[Any, ...], hints: tuple[Any, ...]) -> list[Any]:
    if len(hints) == len(value) and ... not in hints:
        return [encode(v, hint) for v, hint in zip(value, hints, strict=True)]
    item = hints[0] if hints else Any
    return [encode(v, item) for v in value]


def number(value: float, form: Form = PLAIN) -> float | str | None:
    """Return a number as JSON holds it: infinity as a word, NaN as null, what is finite in six significant digits.

    >>> number(float("-inf")), number(1 / 3)
    ('-inf', 0.333333)
    """
    if math.isnan(value):
        return None
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return float(f"{value:.6g}") if form.decimals is None else round(value, form.decimals)
