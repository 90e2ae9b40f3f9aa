"""What `fl-audit compare` takes beside the options of a scan: further models, and what is varied."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from auditor.declaring import declaration, option
from auditor.errors import UsageError
from auditor.output_formats import COMPARISON_FORMATS
from auditor.output_options import resume_option
from auditor.terms import COMPARISON, MODEL, OUTPUT
from auditor.values import FilePath, Listed, Pairs, Switch, Text, Whole, shown

_compare = partial(option, panel=COMPARISON)
_output = partial(option, panel=OUTPUT)


@dataclass(frozen=True, slots=True)
class Alternatives(Pairs):
    """Several values by name: `name=a,b,c` as text, a table of lists elsewhere."""

    metavar: str = "NAME=A,B,C"
    python: str = "Mapping[str, Sequence[Any]]"

    def read(self, flag: str, value: Any) -> tuple[tuple[str, tuple[Any, ...]], ...]:
        """Return (name, values) pairs.

        >>> Alternatives().read("--vary", ["width=32,64", "pool=average,flatten", "sizes=[8, 16],[16, 32]"])
        (('width', (32, 64)), ('pool', ('average', 'flatten')), ('sizes', ([8, 16], [16, 32])))
        """
        items = list(value.items()) if isinstance(value, Mapping) else value if isinstance(value, list) else [value]
        found: dict[str, tuple[Any, ...]] = {}
        for item in items:
            name, values = _alternatives(flag, item)
            if name in found:
                raise UsageError(f"{flag} {name} is given twice", f"give all values at once: {flag} {name}=A,B")
            repeated = next((v for i, v in enumerate(values) if v in values[:i]), None)
            if repeated is not None:
                raise UsageError(f"{flag} {name} has {shown(repeated)} twice", "give each value once")
            found[name] = values
        return tuple(found.items())


def _alternatives(flag: str, item: Any) -> tuple[str, tuple[Any, ...]]:
    if isinstance(item, tuple) and len(item) == 2:
        name, values = str(item[0]), item[1]
        values = tuple(values) if isinstance(values, list | tuple) else _values(str(values))
    else:
        name, _, text = item.partition("=") if isinstance(item, str) else ("", "", "")
        values = _values(text) if text.strip() else ()
    if not name.isidentifier() or not values:
        raise UsageError(f"{flag} {shown(item)} is not name=values", f"write e.g. {flag} width=32,64")
    return name, values


def _values(text: str) -> tuple[Any, ...]:
    """Return what commas separate: JSON where all of it is, else each by itself, JSON or text."""
    try:
        return tuple(json.loads(f"[{text}]"))
    except (ValueError, RecursionError):
        return tuple(_value(part.strip()) for part in text.split(","))


def _value(text: str) -> Any:
    words = {"True": True, "False": False, "None": None}
    if text in words:
        return words[text]
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


@declaration
class ComparedModels:
    """What stands beside the first model: further models, or variants of it."""

    others: tuple[str, ...] = option(
        (), Listed(Text()), "Further models, compared with the first, which is the baseline", panel=MODEL, argument=True
    )
    vary: tuple[tuple[str, tuple[Any, ...]], ...] = _compare(
        (), Alternatives(), "Values of an argument of the factory; repeatable, every combination is a model."
    )
    change: tuple[tuple[str, tuple[Any, ...]], ...] = _compare(
        (),
        Alternatives(),
        "Change of the network itself, each value a model: pooling=flatten, stride=1, activation=gelu, …; see "
        "docs/compare.md; repeatable.",
    )
    seeds: int = _compare(1, Whole(1, 32), "Seeds that every model meets, from --seed on: fresh weights and attacks.")


@declaration
class ComparisonFiles:
    """What a comparison writes and prints."""

    out: Path | None = _output(
        None,
        FilePath("DIR"),
        f"Folder for comparison{', '.join(COMPARISON_FORMATS)} and the audits.",
        default_words="fl-audit-comparison",
    )
    output: tuple[Path, ...] = _output(
        (),
        Listed(FilePath()),
        f"File to write ({' '.join(COMPARISON_FORMATS)}); repeatable; replaces the folder unless --out is given too.",
        flags=("-o",),
    )
    json: bool = _output(False, Switch(), "Print comparison.json and nothing else.")
    quiet: bool = _output(False, Switch(), "Print one line, and no progress.")
    resume: bool = resume_option()
