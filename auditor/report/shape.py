"""A small language that says what a JSON document must look like, and names the first place where it does not."""

from collections.abc import Callable, Mapping
from typing import Any

from auditor.text import printable

Check = Callable[[Any, str], None]

_LARGEST = 1e300


class MisshapenError(Exception):
    """A value is not what its place in the document asks for."""

    def __init__(self, at: str, wanted: str, found: Any) -> None:
        super().__init__(f"{printable(at) or 'the document'} should be {wanted}, found {_kind(found)}")


def text(value: Any, at: str) -> None:
    """Accept a string."""
    if not isinstance(value, str):
        raise MisshapenError(at, "text", value)


def number(value: Any, at: str) -> None:
    """Accept a finite number of a size that can be drawn."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not -_LARGEST < value < _LARGEST:
        raise MisshapenError(at, "a number", value)


def decibel(value: Any, at: str) -> None:
    """Accept a number or an infinite one, spelled `inf` or `-inf`."""
    if not (isinstance(value, str) and value in ("inf", "-inf")):
        number(value, at)


def count(value: Any, at: str) -> None:
    """Accept a whole number that is not negative."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _LARGEST:
        raise MisshapenError(at, "a count", value)


def flag(value: Any, at: str) -> None:
    """Accept true or false."""
    if not isinstance(value, bool):
        raise MisshapenError(at, "true or false", value)


def scalar(value: Any, at: str) -> None:
    """Accept whatever fits in one cell of a table: text, a number, true, false or null."""
    if value is None or isinstance(value, bool | str):
        return
    number(value, at)


def maybe(check: Check) -> Check:
    """Accept null as well."""

    def accept(value: Any, at: str) -> None:
        if value is not None:
            check(value, at)

    return accept


def one_of(*words: str) -> Check:
    """Accept one of a few words."""

    def accept(value: Any, at: str) -> None:
        if not isinstance(value, str) or value not in words:
            raise MisshapenError(at, f"one of {', '.join(words)}", value)

    return accept


def either(first: Check, second: Check) -> Check:
    """Accept what one of two checks accepts."""

    def accept(value: Any, at: str) -> None:
        try:
            first(value, at)
        except MisshapenError:
            second(value, at)

    return accept


def many(check: Check) -> Check:
    """Accept a list of any length."""

    def accept(value: Any, at: str) -> None:
        if not isinstance(value, list):
            raise MisshapenError(at, "a list", value)
        for index, item in enumerate(value):
            check(item, f"{at}[{index}]")

    return accept


def row(*checks: Check) -> Check:
    """Accept a list of exactly these items."""

    def accept(value: Any, at: str) -> None:
        if not isinstance(value, list) or len(value) != len(checks):
            raise MisshapenError(at, f"a list of {len(checks)}", value)
        for index, (check, item) in enumerate(zip(checks, value, strict=True)):
            check(item, f"{at}[{index}]")

    return accept


def table(check: Check) -> Check:
    """Accept an object with any keys."""

    def accept(value: Any, at: str) -> None:
        if not isinstance(value, dict):
            raise MisshapenError(at, "an object", value)
        for key, item in value.items():
            check(item, f"{at}.{printable(key, 40)}")

    return accept


def fields(optional: Mapping[str, Check] | None = None, /, **checks: Check) -> Check:
    """Accept an object that has these keys, and may have the `optional` ones; more are welcome."""

    def accept(value: Any, at: str) -> None:
        if not isinstance(value, dict):
            raise MisshapenError(at, "an object", value)
        for key, check in checks.items():
            place = f"{at}.{key}" if at else key
            if key not in value:
                raise MisshapenError(place, "present", _ABSENT)
            check(value[key], place)
        for key, check in (optional or {}).items():
            if key in value:
                check(value[key], f"{at}.{key}" if at else key)

    return accept


_ABSENT = object()


def _kind(value: Any) -> str:
    if value is _ABSENT:
        return "nothing"
    if value is None:
        return "null"
    if isinstance(value, bool | int | float):
        return printable(str(value)[:40], 40)
    if isinstance(value, str):
        return f"the text '{printable(value, 40)}'"
    return "a list" if isinstance(value, list) else "an object" if isinstance(value, dict) else type(value).__name__
