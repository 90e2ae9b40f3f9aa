"""Values as people type them: shapes, durations, lists of numbers."""

import json
import re
from collections.abc import Sequence
from typing import Any

from auditor.errors import UsageError
from auditor.text import printable

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_seconds(text: str) -> float:
    """Return seconds from `90`, `90s`, `5m` or `1.5h`.

    Raises
    ------
    UsageError
        Not a positive duration.

    >>> parse_seconds("1.5m")
    90.0
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smh]?)\s*", text)
    value = float(match[1]) * _UNITS[match[2]] if match else 0.0
    if value <= 0.0:
        raise UsageError(f"--max-time {printable(text)} is not a duration", "write 90s, 5m or 1h")
    return value


def parse_shape(text: str) -> tuple[int, ...]:
    """Return a shape from `3,8,32,32` or `3x8x32x32`.

    Raises
    ------
    UsageError
        Not 3 to 5 positive whole numbers.

    >>> parse_shape("3x8x32x32")
    (3, 8, 32, 32)
    """
    parts = re.split(r"[,x×\s]+", text.strip())
    if not 3 <= len(parts) <= 5 or not all(re.fullmatch(r"\d{1,6}", p) and int(p) > 0 for p in parts):
        raise UsageError(
            f"--input-shape {printable(text)} is not a shape",
            "write one clip's size in the model's order, e.g. 3,8,32,32",
        )
    return tuple(int(p) for p in parts)


def parse_floats(option: str, text: str, count: int | None = None) -> tuple[float, ...]:
    """Return numbers from `0.45,0.45,0.45`.

    Raises
    ------
    UsageError
        Not numbers, or not `count` of them.
    """
    try:
        values = tuple(float(p) for p in text.split(","))
    except ValueError:
        values = ()
    if not values or (count is not None and len(values) != count) or any(v != v or abs(v) > 1e6 for v in values):
        raise UsageError(f"{option} {printable(text)} is not a list of numbers", "separate them by commas")
    return values


def parse_arguments(texts: Sequence[str]) -> tuple[tuple[str, Any], ...]:
    """Return (name, value) pairs from `name=value`: values are JSON where they can be, else text.

    Raises
    ------
    UsageError
        A text is not of that form, or a name comes twice.

    >>> parse_arguments(["depth=4", "width=1.5", "gated=true", "sizes=[8, 16]", "kind=slow"])
    (('depth', 4), ('width', 1.5), ('gated', True), ('sizes', [8, 16]), ('kind', 'slow'))
    """
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise UsageError(f"--arg {printable(text)} is not name=value", "write e.g. --arg depth=4")
        if name in found:
            raise UsageError(f"--arg {name} is given twice", "give each name once")
        found[name] = _plain(value)
    return tuple(found.items())


def _plain(text: str) -> Any:
    words = {"True": True, "False": False, "None": None}
    if text in words:
        return words[text]
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
