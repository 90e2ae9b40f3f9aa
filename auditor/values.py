"""Kinds of values that options take: each is read by one function from text, TOML and Python alike."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, get_args

from auditor.errors import UsageError
from auditor.text import printable

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
# Longer numbers than these are slips of the keyboard.
_LARGEST = 1e6


class Kind(Protocol):
    """What an option takes.

    Attributes
    ----------
    metavar
        Stands for the value in help.
    python
        What Python code may give, as a type is written.
    """

    @property
    def metavar(self) -> str: ...

    @property
    def python(self) -> str: ...

    @property
    def told(self) -> str:
        """The values that are allowed, in words; empty where the option's help says it."""
        ...

    def read(self, flag: str, value: Any) -> Any:
        """Return the typed value.

        Raises
        ------
        UsageError
            It is none of this kind; the line names `flag` wherever the value comes from.
        """
        ...


@dataclass(frozen=True, slots=True)
class Text:
    """Any text; `numbers` tells that a number may be given as one."""

    metavar: str = "TEXT"
    numbers: bool = False
    told: str = ""

    @property
    def python(self) -> str:
        return "str | float" if self.numbers else "str"

    def read(self, flag: str, value: Any) -> str:
        """Return the text."""
        allowed = (str, Path, int, float) if self.numbers else (str, Path)
        if isinstance(value, bool) or not isinstance(value, allowed) or not str(value):
            raise UsageError(
                f"{flag} {shown(value)} is not a text" if str(value) else f"{flag} is empty", "give a text"
            )
        return str(value)


@dataclass(frozen=True, slots=True)
class FilePath:
    """A path; `remedy` tells what to give where it has to exist."""

    metavar: str = "FILE"
    remedy: str = ""
    told: str = ""
    python: str = "str | Path"

    def read(self, flag: str, value: Any) -> Path:
        """Return the path."""
        path = Path(Text().read(flag, value))
        if self.remedy and not path.exists():
            raise UsageError(f"there is no {shown(path)}", f"give {flag} {self.remedy}")
        return path


@dataclass(frozen=True, slots=True)
class FrameSource:
    """Frames of a scene: a path that exists, or `first:K`."""

    metavar: str = "FILE|first:K"
    told: str = ""
    python: str = "str | Path"

    def read(self, flag: str, value: Any) -> str:
        """Return the text."""
        text = Text().read(flag, value)
        if not text.startswith("first:") and not Path(text).exists():
            raise UsageError(f"there is no {shown(Path(text))}", f"give {flag} a picture, a folder or a clip")
        return text


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few words; `meaning` maps what people write to what the program calls it."""

    meaning: Mapping[str, str]
    metavar: str = "WORD"

    @property
    def told(self) -> str:
        *others, last = self.meaning
        return f"{', '.join(others)} or {last}" if others else last

    @property
    def python(self) -> str:
        return f"Literal[{', '.join(json.dumps(word) for word in self.meaning)}]"

    def read(self, flag: str, value: Any) -> str:
        """Return the word as the program calls it."""
        if isinstance(value, str) and value in self.meaning:
            return self.meaning[value]
        if value in self.meaning.values():
            return str(value)
        raise UsageError(f"{flag} {shown(value)} is unknown", f"use one of {', '.join(self.meaning)}")


def one_of(words: Any) -> Choice:
    """Return the choice of the words of a `Literal`, which the program calls as people do."""
    return Choice({word: word for word in get_args(words)})


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number in a range, both ends included; no upper end for None."""

    least: int = 0
    most: int | None = None
    metavar: str = "INT"
    python: str = "int"

    @property
    def told(self) -> str:
        return f"{self.least} or more" if self.most is None else f"{self.least} to {self.most}"

    def read(self, flag: str, value: Any) -> int:
        """Return the number."""
        text = str(value).strip()
        number = int(text) if isinstance(value, int | str) and re.fullmatch(r"-?\d{1,18}", text) else self.least - 1
        if number < self.least or (self.most is not None and number > self.most):
            bounds = f"{'of' if self.most is None else 'from'} {self.told}"
            raise UsageError(
                f"{flag} {shown(value)} is not a whole number {bounds}", f"give e.g. {flag} {max(self.least, 2)}"
            )
        return number


@dataclass(frozen=True, slots=True)
class Count:
    """How many of what there is: a whole number from 0, or `all`, which is the largest number."""

    metavar: str = "INT|all"
    told: str = "0 or more, or all"
    python: str = 'int | Literal["all"]'

    def read(self, flag: str, value: Any) -> int:
        """Return the number."""
        return int(_LARGEST) if value == "all" else Whole(0, int(_LARGEST)).read(flag, value)


@dataclass(frozen=True, slots=True)
class Number:
    """A finite number of which `least` is the smallest, or with `above` is too small, and `below` is too large."""

    least: float = 0.0
    below: float = math.inf
    above: bool = False
    example: str = "0.5"
    metavar: str = "NUMBER"
    python: str = "float"

    @property
    def told(self) -> str:
        low = f"above {self.least:g}" if self.above else f"from {self.least:g}"
        return low if self.below == math.inf else f"{low} to below {self.below:g}"

    def read(self, flag: str, value: Any) -> float:
        """Return the number."""
        number = _number(value)
        low = number > self.least if self.above else number >= self.least
        if not (low and number < self.below):
            given = shown(value if math.isnan(number) else number)
            raise UsageError(f"{flag} {given} is not a number {self.told}", f"give e.g. {flag} {self.example}")
        return number


@dataclass(frozen=True, slots=True)
class Switch:
    """On or off; on the command line it takes no value."""

    metavar: str = ""
    told: str = ""
    python: str = "bool"

    def read(self, flag: str, value: Any) -> bool:
        """Return whether it is on."""
        if not isinstance(value, bool):
            raise UsageError(f"{flag} {shown(value)} is neither true nor false", "give true or false")
        return value


@dataclass(frozen=True, slots=True)
class Numbers:
    """Numbers such as `0.45,0.45,0.45`; `count` tells how many where that is fixed."""

    count: int | None = None
    metavar: str = "NUMBERS"
    told: str = ""
    python: str = "str | Sequence[float]"

    def read(self, flag: str, value: Any) -> tuple[float, ...]:
        """Return the numbers."""
        parts = value.split(",") if isinstance(value, str) else value if isinstance(value, list | tuple) else [value]
        numbers = tuple(_number(part) for part in parts)
        few = not numbers or (self.count is not None and len(numbers) != self.count)
        if few or not all(abs(number) <= _LARGEST for number in numbers):
            wanted = "a list of numbers" if self.count is None else f"{self.count} numbers"
            raise UsageError(f"{flag} {shown(value)} is not {wanted}", "separate them by commas")
        return numbers


@dataclass(frozen=True, slots=True)
class Shape:
    """Three to five sizes: `3,8,32,32` or `3x8x32x32`."""

    metavar: str = "SIZES"
    told: str = ""
    python: str = "str | Sequence[int]"

    def read(self, flag: str, value: Any) -> tuple[int, ...]:
        """Return the sizes.

        >>> Shape().read("--input-shape", "3x8x32x32")
        (3, 8, 32, 32)
        """
        listed = isinstance(value, list | tuple) and not any(isinstance(size, bool) for size in value)
        parts = [str(size) for size in value] if listed else re.split(r"[,x×\s]+", str(value).strip())
        if not 3 <= len(parts) <= 5 or not all(re.fullmatch(r"\d{1,6}", p) and int(p) > 0 for p in parts):
            raise UsageError(
                f"{flag} {shown(value)} is not a shape", "write one clip's size in the model's order, e.g. 3,8,32,32"
            )
        return tuple(int(p) for p in parts)


@dataclass(frozen=True, slots=True)
class Duration:
    """Seconds, or a text such as `90s`, `5m`, `1.5h`."""

    metavar: str = "TIME"
    told: str = ""
    python: str = "str | float"

    def read(self, flag: str, value: Any) -> float:
        """Return seconds.

        >>> Duration().read("--max-time", "1.5m")
        90.0
        """
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smh]?)\s*", value) if isinstance(value, str) else None
        seconds = (
            float(match[1]) * _UNITS[match[2]] if match else math.nan if isinstance(value, str) else _number(value)
        )
        if not 0.0 < seconds < math.inf:
            raise UsageError(f"{flag} {shown(value)} is not a duration", "write 90s, 5m or 1h")
        return seconds


@dataclass(frozen=True, slots=True)
class Pairs:
    """Values by name: `name=value` as text, where a value is JSON if it can be, else text; a table elsewhere."""

    metavar: str = "NAME=VALUE"
    told: str = ""
    python: str = "Mapping[str, Any]"

    def read(self, flag: str, value: Any) -> tuple[tuple[str, Any], ...]:
        """Return (name, value) pairs.

        >>> Pairs().read("--arg", ["depth=4", "width=1.5", "gated=true", "sizes=[8, 16]", "kind=slow"])
        (('depth', 4), ('width', 1.5), ('gated', True), ('sizes', [8, 16]), ('kind', 'slow'))
        """
        given = value.items() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else [value]
        found: dict[str, Any] = {}
        for item in given:
            name, held = item if isinstance(item, tuple) and len(item) == 2 else _named(item)
            if not str(name).isidentifier():
                raise UsageError(f"{flag} {shown(item)} is not name=value", f"write e.g. {flag} depth=4")
            if name in found:
                raise UsageError(f"{flag} {name} is given twice", "give each name once")
            found[str(name)] = held
        return tuple(found.items())


@dataclass(frozen=True, slots=True)
class Listed:
    """Any number of values of one kind; a single value is a list of one."""

    of: Kind

    @property
    def metavar(self) -> str:
        return self.of.metavar

    @property
    def told(self) -> str:
        return self.of.told

    @property
    def python(self) -> str:
        return f"{self.of.python} | Sequence[{self.of.python}]"

    def read(self, flag: str, value: Any) -> tuple[Any, ...]:
        """Return the values."""
        given = value if isinstance(value, list | tuple) else [value]
        return tuple(self.of.read(flag, item) for item in given)


def shown(value: Any) -> str:
    """Return a value as an error may show it."""
    if isinstance(value, list | tuple):
        return printable(",".join(shown(item) for item in value))
    if isinstance(value, Path):
        return printable(str(value), 300)
    return f"{value:g}" if isinstance(value, float) else printable(str(value))


def _number(value: Any) -> float:
    """A number, or NaN for whatever is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return math.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan


def _named(text: Any) -> tuple[str, Any]:
    name, _, value = text.partition("=") if isinstance(text, str) and "=" in text else ("", "", "")
    words = {"True": True, "False": False, "None": None}
    if value in words:
        return name, words[value]
    try:
        return name, json.loads(value)
    except (ValueError, RecursionError):
        return name, value
