"""Typer's signatures, made from the declared options: a new option changes nothing here."""

import inspect
import os
import re
import sys
from collections.abc import Callable
from dataclasses import fields
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from auditor.configuration.files import ConfigurationFile, find_configuration, named_configuration
from auditor.configuration.merge import Given, layered
from auditor.declaring import REQUIRED, Option, options_of
from auditor.gate_options import ConfigurationOptions
from auditor.named_paths import check_named
from auditor.option_rules import options_from
from auditor.options import COMMANDS
from auditor.terms import PANELS
from auditor.values import Switch

# What rich would take for a style: an extra such as [faces], or [default: 0].
_MARKUP = re.compile(r"\[(?=[a-z#/@])")


def takes_options(command: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a function the command line of a command; it is called with one record for each class that declares it."""
    declared = COMMANDS[command]

    def wrapped(body: Callable[..., None]) -> Callable[..., None]:
        @wraps(body)
        def run(**given: Any) -> None:
            if ConfigurationOptions in declared:
                given = configured(command, given)
            # These also tell where the options come from.
            needed = [
                cls for cls in declared if cls is not ConfigurationOptions or command in ("scan", "merge", "config")
            ]
            records = [_record(cls, given) for cls in needed]
            for record in records:
                check_named(record)
            body(*records)

        parameters = [_parameter(option) for option in _in_order(declared)]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        return run

    return wrapped


def help_of(option: Option) -> str:
    """Return an option's help: what it is, which values it takes, and what happens without it."""
    bounds = (option.kind.told,) if option.kind.told and not option.argument else ()
    without = (f"default: {option.without}",) if option.without and not option.argument else ()
    told = "; ".join((*bounds, *without))
    return f"{option.help} [{told}]" if told else option.help


def configured(command: str, given: dict[str, Any]) -> dict[str, Any]:
    """Return what was given, and what the environment and the configuration file add to it."""
    return {**given, **{name: held.value for name, held in all_given(command, given).items()}}


def all_given(command: str, given: dict[str, Any]) -> dict[str, Given]:
    """Return every value that was given for a command, with its origin."""
    return layered(command, {n: v for n, v in given.items() if n != "config"}, os.environ, configuration_file(given))


def configuration_file(given: dict[str, Any]) -> ConfigurationFile | None:
    """Return the file that --config or FL_AUDIT_CONFIG names, else the nearest one, else None."""
    named = given.get("config") or os.environ.get("FL_AUDIT_CONFIG")
    return named_configuration(Path(named)) if named else find_configuration(Path.cwd())


def _record(cls: Any, given: dict[str, Any]) -> Any:
    names = {option.name for option in options_of(cls)}
    values = {name: value for name, value in given.items() if name in names and value != []}
    if any(f.name == "command" for f in fields(cls)):
        return options_from(cls, values, command=("fl-audit", *sys.argv[1:]))
    return options_from(cls, values)


def _in_order(declared: tuple[type, ...]) -> list[Option]:
    """Options in the order of help: arguments first, then what only this command has."""
    found = [option for cls in declared for option in options_of(cls)]
    return sorted(found, key=lambda option: (not option.argument, PANELS.index(option.panel)))


def _parameter(option: Option) -> inspect.Parameter:
    annotation = Annotated[_typed(option), _typer(option)]  # type: ignore[valid-type]
    default = ... if option.default is REQUIRED else None
    return inspect.Parameter(option.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _typed(option: Option) -> Any:
    if isinstance(option.kind, Switch):
        return bool | None
    if option.repeatable:
        return list[str] | None
    return str if option.default is REQUIRED else str | None


def _typer(option: Option) -> Any:
    told = _MARKUP.sub(r"\\[", help_of(option))
    if option.argument:
        name = option.kind.metavar if option.kind.metavar.startswith("FILE.") else option.name.upper()
        return typer.Argument(help=told, metavar=name, show_default=False)
    value = None if isinstance(option.kind, Switch) else option.kind.metavar
    return typer.Option(*option.flags, help=told, metavar=value, rich_help_panel=option.panel, show_default=False)
