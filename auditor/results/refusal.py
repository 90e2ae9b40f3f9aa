"""Documents from outside are untrusted: checked whole, refused in one line that names the first wrong place."""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from auditor.errors import UsageError
from auditor.results.wire import LARGEST, wire
from auditor.text import printable

# A place as msgspec names it: `$.findings[0].title`, `$.baselines[...]` for any value of an object.
_PLACE = re.compile(r"^(?P<what>.*?)(?: - at `\$?(?P<place>.*)`)?$", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(\w+)`")
_WANTED = {
    "str": "text",
    "int": "a count",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}
_ABSENT = object()


def check(document: Any, kind: type[Any], name: str, remedy: str) -> None:
    """Raise UsageError, in one line, unless `document` (plain JSON values) has the form of a record.

    Parameters
    ----------
    name
        What the document is called in the message.
    """
    told = _first_wrong(document, kind)
    if told is not None:
        raise UsageError(f"{printable(name)}: {told}", remedy)


def _first_wrong(document: Any, kind: type[Any]) -> str | None:
    try:
        msgspec.convert(document, wire(kind))
    except msgspec.ValidationError as error:
        return _told(str(error), document)
    except RecursionError:
        return "the document is nested too deeply"
    return _too_large(document, "")


def _too_large(value: Any, at: str) -> str | None:
    """Name the first whole number that no drawing can hold: msgspec bounds those that fit a machine word alone."""
    if isinstance(value, int) and not -LARGEST < value < LARGEST:
        return f"{at} should be a number, found {_kind(value)}"
    items: Any = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        place = f"{at}[{key}]" if isinstance(value, list) else f"{at}.{printable(key, 40)}" if at else printable(key)
        told = _too_large(item, place)
        if told is not None:
            return told
    return None


def _told(message: str, document: Any) -> str:
    parts = _PLACE.match(message)
    what, place = (parts["what"], parts["place"] or "") if parts else (message, "")
    missing = _MISSING.match(what)
    if missing:
        return f"{_spelled(f'{place}.{missing[1]}')} should be present, found nothing"
    found = _at(document, place)
    shown = "" if found is _ABSENT else f", found {_kind(found)}"
    return f"{_spelled(place) or 'the document'} should be {_wanted(what)}{shown}"


def _spelled(place: str) -> str:
    return printable(place.removeprefix("."), 200)


def _wanted(what: str) -> str:
    """Return what a place asks for, in a reader's words."""
    if what.startswith("Invalid enum value"):
        return "one of the values that the schema lists"
    if what.startswith("Number out of range"):
        return "a number"
    length = re.match(r"Expected `array` of length (\d+)", what)
    if length:
        return f"a list of {length[1]}"
    kinds = re.match(r"Expected `([^`]*)`", what)
    names = kinds[1].split(" | ") if kinds else []
    return " or ".join(dict.fromkeys(_WANTED.get(name, name) for name in names)) or "otherwise"


def _at(document: Any, place: str) -> Any:
    """Return the value at a place; absent where an object's key is not told."""
    found = document
    for key, index in re.findall(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]", place):
        if index == "...":
            return _ABSENT
        found = found[key] if key else found[int(index)]
    return found


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool | int | float):
        return printable(str(value)[:40], 40)
    if isinstance(value, str):
        return f"the text '{printable(value, 40)}'"
    return "a list" if isinstance(value, list) else "an object" if isinstance(value, dict) else type(value).__name__
