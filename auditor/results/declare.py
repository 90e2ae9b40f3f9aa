"""How records say what they are when they are written: the forms of numbers and texts, and values that follow."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, TypeAlias, TypeVar, dataclass_transform

_T = TypeVar("_T")


@dataclass_transform(frozen_default=True, kw_only_default=True, eq_default=False, field_specifiers=(field,))
def record(cls: type[_T]) -> type[_T]:
    """Make a class a frozen dataclass with keywords only, compared by identity."""
    return dataclass(frozen=True, slots=True, kw_only=True, eq=False)(cls)


class derived(property):  # noqa: N801, as `property`
    """A value that follows from the fields of a record and is written beside them."""


@dataclass(frozen=True, slots=True)
class Form:
    """What a number, a text or a record is in JSON.

    Attributes
    ----------
    infinite
        A number may be infinite, written "inf" or "-inf".
    unmeasured
        A number may be NaN, written null.
    decimals
        Decimal places of a number; None for six significant digits.
    cap
        The most characters of a text, which comes from outside.
    row
        A record is written as the list of its values.
    cell
        Whatever fits in one cell of a table: text, a number of any sign, true, false or null.
    later
        Older documents lack the field: a reader does without, and it needs a default.
    written_as
        The record whose form a mapping has that is plain already.
    """

    infinite: bool = False
    unmeasured: bool = False
    decimals: int | None = None
    cap: int | None = None
    row: bool = False
    cell: bool = False
    later: bool = False
    written_as: type[Any] | None = None


Later: TypeAlias = Annotated[_T, Form(later=True)]
Decibel: TypeAlias = Annotated[float, Form(infinite=True, unmeasured=True)]
Measured: TypeAlias = Annotated[float, Form(unmeasured=True)]
Share: TypeAlias = Annotated[float, Form(decimals=4)]
Chance: TypeAlias = Annotated[float, Form(decimals=6)]
Seconds: TypeAlias = Annotated[float, Form(decimals=2, unmeasured=True)]
Name: TypeAlias = Annotated[str, Form(cap=120)]
LongName: TypeAlias = Annotated[str, Form(cap=300)]
Sentence: TypeAlias = Annotated[str, Form(cap=400)]
Paragraph: TypeAlias = Annotated[str, Form(cap=600)]
# A picture within the document. One of 160 pixels a side, the largest that is stored, takes up to 105,000 characters.
DataUri: TypeAlias = Annotated[str, Form(cap=400_000)]
Scalar: TypeAlias = Annotated[bool | int | float | str | None, Form(cell=True)]
# What a clip is trained as: a class, the set of classes that are present, or a value.
Label: TypeAlias = int | float | tuple[int, ...]


def values_of(kind: type[Any], source: Any) -> Mapping[str, Any]:
    """Return the fields that `kind` declares, as they are in `source`: to make a larger record of the same names."""
    return {f.name: getattr(source, f.name) for f in fields(kind)}
