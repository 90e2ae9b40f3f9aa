"""Which value counts: command line, then environment, then file, then default; each with where it comes from."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from auditor.configuration.files import ConfigurationFile
from auditor.declaring import Option, options_of
from auditor.errors import UsageError
from auditor.options import COMMANDS, LOCAL
from auditor.terms import GATE, OUTPUT
from auditor.text import did_you_mean, printable
from auditor.values import FilePath, FrameSource, Listed, Pairs, Switch

COMMAND_LINE, DEFAULT = "command line", "default"
_PREFIX = "FL_AUDIT_"
# These are read elsewhere, and are no options.
_OTHERS = frozenset(("FL_AUDIT_DEBUG", "FL_AUDIT_CHECK_SHAPES", "FL_AUDIT_CONFIG"))
_SOURCES = ("model", "extractor", "head")
# Which model is read is one choice: who names one in one place means none of another place.
_MODEL_CHOICE = frozenset((*_SOURCES, "weights", "extractor_weights", "head_weights", "join"))
# What a command prints, and which of several it is, is said where it is called.
_NEVER = frozenset(("json", "quiet", "config", "shard"))


@dataclass(frozen=True, slots=True)
class Given:
    """A value as it was given, and where."""

    value: Any
    origin: str


def configurable() -> dict[str, Option]:
    """Return what a configuration may say: every option of a scan but what it prints."""
    found = [option for cls in COMMANDS["scan"] for option in options_of(cls)]
    return {option.name: option for option in found if option.name not in _NEVER}


def layered(
    command: str, given: Mapping[str, Any], environment: Mapping[str, str], file: ConfigurationFile | None
) -> dict[str, Given]:
    """Return every value that was given for a command, by name, the nearest origin first: without defaults.

    Parameters
    ----------
    given
        What the command line says.
    environment
        The process's variables.

    Raises
    ------
    UsageError
        A key or a variable is unknown, or its value is none: one line that names the file or the variable.
    """
    known = configurable()
    levels = [
        {name: Given(value, COMMAND_LINE) for name, value in given.items() if value not in (None, [])},
        _of_environment(environment, known),
        {} if file is None else _of_file(file, known),
    ]
    taken = _taken_by(command, known)
    found: dict[str, Given] = {}
    for level in levels:
        blocked = _blocked(found)
        fitting = {name: held for name, held in level.items() if held.origin == COMMAND_LINE or name in taken}
        found.update({name: held for name, held in fitting.items() if name not in found and name not in blocked})
    return found


def _taken_by(command: str, known: Mapping[str, Option]) -> frozenset[str]:
    """What a command takes of a configuration: all of it for a scan, else what means the same there."""
    declared = {option.name: option for cls in COMMANDS[command] for option in options_of(cls)}
    return frozenset(name for name, option in declared.items() if name in known and _alike(command, option, known))


def _alike(command: str, option: Option, known: Mapping[str, Option]) -> bool:
    if command == "scan":
        return True
    panel = known[option.name].panel
    return panel != OUTPUT and option.panel in (panel, GATE)


def _blocked(found: Mapping[str, Given]) -> frozenset[str]:
    """What a farther level says in vain, because a nearer one chose the model or plain gradients."""
    blocked = _MODEL_CHOICE if any(name in found for name in _SOURCES) else frozenset()
    plain = "algorithm" in found and str(found["algorithm"].value).lower() == "fedsgd"
    return blocked | frozenset(LOCAL) if plain else blocked


def _of_environment(environment: Mapping[str, str], known: Mapping[str, Option]) -> dict[str, Given]:
    found = {}
    for variable, text in sorted(environment.items()):
        if not variable.startswith(_PREFIX) or variable in _OTHERS:
            continue
        name = variable.removeprefix(_PREFIX).lower()
        if name not in known:
            meant = did_you_mean(name, known).upper().replace("DID YOU MEAN ", f"did you mean {_PREFIX}")
            raise UsageError(f"the variable {printable(variable, 80)} is unknown{meant}", "unset it, or correct it")
        found[name] = Given(_checked(known[name], _from_text(known[name], text), variable), variable)
    return found


def _from_text(option: Option, text: str) -> Any:
    """A variable as the kind wants it: true and false for a switch, a list in brackets as JSON."""
    if isinstance(option.kind, Switch):
        return {"true": True, "1": True, "false": False, "0": False}.get(text.strip().lower(), text)
    if option.repeatable and text.lstrip().startswith("["):
        try:
            return json.loads(text)
        except ValueError:
            return text
    return [text] if isinstance(option.kind, Pairs) else text


def _of_file(file: ConfigurationFile, known: Mapping[str, Option]) -> dict[str, Given]:
    found = {}
    for name, value in file.values.items():
        if name not in known:
            former = next((f" (did you mean {o.name}?)" for o in known.values() if name in o.former), None)
            meant = former or did_you_mean(name, known)
            raise UsageError(f"{file.name}: '{printable(name, 60)}' is unknown{meant}", "see docs/configuration.md")
        placed = _placed(known[name], value, file.folder)
        found[name] = Given(_checked(known[name], placed, file.name), file.name)
    return found


def _checked(option: Option, value: Any, where: str) -> Any:
    """Return the value as given, once its kind has read it: what is wrong is said where it stands."""
    try:
        option.read(value)
    except UsageError as error:
        raise UsageError(f"{where}: {error.cause}", error.remedy) from None
    return value


def _placed(option: Option, value: Any, folder: Path) -> Any:
    """Return paths of a file as they are from the current folder; all else as it is."""
    if isinstance(value, list) and isinstance(option.kind, Listed):
        return [_placed_one(option.kind.of, option.name, item, folder) for item in value]
    return _placed_one(option.kind.of if isinstance(option.kind, Listed) else option.kind, option.name, value, folder)


def _placed_one(kind: Any, name: str, value: Any, folder: Path) -> Any:
    if not isinstance(value, str) or not value:
        return value
    if isinstance(kind, FilePath) or (isinstance(kind, FrameSource) and not value.startswith("first:")):
        return os.path.relpath(folder / value)
    if name in _SOURCES:
        file, colon, factory = value.rpartition(":") if ".py:" in value else (value, "", "")
        if (folder / file).exists():
            return f"{os.path.relpath(folder / file)}{colon}{factory}"
    return value
