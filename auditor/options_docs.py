"""What is generated from the declared options: the table of docs/options.md, and the keywords that Python takes."""

from collections.abc import Iterator, Sequence

from auditor.comparison.options import ComparedModels
from auditor.declaring import REQUIRED, Option, options_of
from auditor.options import COMMANDS, AttackOptions, ClientOptions, DefendOptions, ModelOptions, ScanOptions
from auditor.terms import (
    AUDIT,
    CAPTURED,
    CLIENT,
    COMPARISON,
    DOCUMENT,
    EXPERIMENT,
    GATE,
    MODEL,
    OUTPUT,
    PARTS,
    SEARCH,
    STUDY,
    WORK,
)  # fmt: skip
from auditor.update_options import CapturedUpdate
from auditor.values import Switch

_HEAD = """# Options

Written by `python -m auditor.options` from auditor/options.py. A test keeps it current.

An option has one name. It is the keyword in Python, the key in results, and the key of a study's `[[model]]` table.
On the command line `learning_rate` is `--learning-rate`. A wrong value is refused with the same line everywhere.
Text is read as on the command line, so `max_time="5m"` works in Python. In Python and TOML an option that may be
repeated takes a list, and `arg` takes a table such as `{ width = 16 }`.
"""
_COLUMNS = "| name | flag | value | without it | commands | meaning |\n|---|---|---|---|---|---|\n"
_KEYWORDS = '''"""The keywords of `auditor.load`, `scan`, `compare`, `attack` and `defend`, for editors and checkers.

Written by `python -m auditor.options keywords` from auditor/options.py. A test keeps it current.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict
'''
# What commands share comes first.
_SECTIONS = (
    MODEL, PARTS, CLIENT, AUDIT, GATE, EXPERIMENT, SEARCH, CAPTURED, COMPARISON, STUDY, WORK, DOCUMENT, OUTPUT,
)  # fmt: skip
_CLASSES = (
    ("LoadKeywords", "TypedDict, total=False", "What `auditor.load` takes.", ModelOptions, object),
    ("ClientKeywords", "LoadKeywords, total=False", "How clients train.", ClientOptions, ModelOptions),
    ("ScanKeywords", "ClientKeywords, total=False", "What `auditor.scan` takes.", ScanOptions, ClientOptions),
    ("CompareKeywords", "ScanKeywords, total=False", "What `auditor.compare` takes.", ComparedModels, object),
    ("UpdateKeywords", "ClientKeywords, total=False", "An update that was captured.", CapturedUpdate, object),
    ("AttackKeywords", "UpdateKeywords, total=False", "What `auditor.attack` takes.", AttackOptions, ClientOptions),
    ("DefendKeywords", "ClientKeywords, total=False", "What `auditor.defend` takes.", DefendOptions, ClientOptions),
)


def table() -> str:
    """Return docs/options.md."""
    told: dict[str, dict[tuple[str, str], list[tuple[str, Option]]]] = {panel: {} for panel in _SECTIONS}
    for command, declared in COMMANDS.items():
        for option in (option for cls in declared for option in options_of(cls)):
            told[option.panel].setdefault((option.name, option.help), []).append((command, option))
    parts = [_HEAD]
    for panel, rows in told.items():
        parts.append(f"\n## {panel}\n\n{_COLUMNS}")
        parts += [_row(held) for held in rows.values()]
    return "".join(parts)


def keywords() -> str:
    """Return auditor/keywords.py."""
    return _KEYWORDS + "".join(
        f'\n\nclass {name}({bases}):\n    """{about}"""\n\n' + "".join(_keyword(o) for o in _added(cls, base))
        for name, bases, about, cls, base in _CLASSES
    )


def _row(held: Sequence[tuple[str, Option]]) -> str:
    commands, option = [command for command, _ in held], held[0][1]
    if option.study:
        commands.append("study's `[[model]]`")
    cells = (
        f"`{option.name}`",
        ", ".join(f"`{flag}`" for flag in option.flags),
        "" if isinstance(option.kind, Switch) else f"{option.kind.metavar} {option.kind.told}".strip(),
        _without(held),
        ", ".join(commands),
        option.help,
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _without(held: Sequence[tuple[str, Option]]) -> str:
    """The default, and that of commands which have another."""
    _, first = held[0]
    if first.default is REQUIRED:
        return "required"
    others = (f"{command}: {option.without}" for command, option in held if option.without != first.without)
    return "; ".join((first.without, *others)) if first.without else ""


def _added(cls: type, base: type) -> Iterator[Option]:
    known = {option.name for option in options_of(base)} if base is not object else set()
    return (option for option in options_of(cls) if option.name not in {*known, "model", "others"})


def _keyword(option: Option) -> str:
    return f"    {option.name}: {option.kind.python} | None\n"
