"""How an option is declared: a field of a dataclass that carries its `Option`."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar, dataclass_transform

from auditor.values import Choice, Duration, Kind, Listed, Pairs, Switch

# The default of an option that has to be given.
REQUIRED = object()
_KEY = "option"
_Class = TypeVar("_Class")


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option, under one name: in Python, as the key of a study file, in results, and as a flag.

    Attributes
    ----------
    flags
        As they are spelled on the command line; the first is the one that errors name.
    default_words
        What happens without the option, where `default` does not say it.
    study
        Whether a study's [[model]] takes it.
    argument
        Whether the command line takes it by its place.
    former
        Names that it had, for the line that refuses them.
    """

    name: str
    kind: Kind
    default: Any
    help: str
    panel: str
    flags: tuple[str, ...]
    default_words: str
    study: bool
    argument: bool
    former: tuple[str, ...]

    @property
    def flag(self) -> str:
        """How errors name the option."""
        return self.flags[0].partition("/")[0]

    @property
    def repeatable(self) -> bool:
        """Whether the command line takes the flag several times."""
        return isinstance(self.kind, Listed | Pairs)

    @property
    def without(self) -> str:
        """What happens without the option, in a few words; empty where nothing does."""
        if self.default_words or self.default is REQUIRED:
            return self.default_words
        if self.default in (None, ()) or (self.default is False and "/" not in self.flags[0]):
            return ""
        if isinstance(self.kind, Switch):
            return self.flags[0].split("/")[0 if self.default else 1].removeprefix("--")
        if isinstance(self.kind, Choice):
            return next(word for word, meant in self.kind.meaning.items() if meant == self.default)
        number = isinstance(self.default, float)
        return f"{self.default:g}{'s' * isinstance(self.kind, Duration)}" if number else str(self.default)

    def read(self, value: Any) -> Any:
        """Return the typed value of what was given as text, in TOML or in Python.

        Raises
        ------
        UsageError
            See `auditor.values`; the line is the same wherever the value comes from.
        """
        return self.kind.read(self.flag, value)


@dataclass_transform(frozen_default=True, kw_only_default=True, eq_default=False)
def declaration(cls: type[_Class]) -> type[_Class]:
    """Make a class of options a frozen dataclass with keywords only, compared by identity."""
    return dataclass(frozen=True, slots=True, kw_only=True, eq=False)(cls)


def option(
    default: Any,
    kind: Kind,
    help_text: str,
    *,
    panel: str,
    flags: tuple[str, ...] = (),
    default_words: str = "",
    study: bool = False,
    argument: bool = False,
    former: tuple[str, ...] = (),
) -> Any:
    """Declare an option as the default of a dataclass field; its flag is the field's name unless `flags` are given."""
    made = Option(
        name="", kind=kind, default=default, help=help_text, panel=panel, flags=flags, default_words=default_words,
        study=study, argument=argument, former=former,
    )  # fmt: skip
    return field(metadata={_KEY: made}) if default is REQUIRED else field(default=default, metadata={_KEY: made})


def options_of(declared: type) -> tuple[Option, ...]:
    """Return the options that a class declares, in their order."""
    return tuple(_named(f.metadata[_KEY], f.name) for f in fields(declared) if _KEY in f.metadata)


def plain_values(options: Any) -> Mapping[str, Any]:
    """Return the values of declared options by their names, as JSON has them."""
    return {o.name: _plain(o.kind, getattr(options, o.name)) for o in options_of(type(options))}


def changed(declared: type, name: str, default: Any, default_words: str = "") -> Any:
    """Declare an option of another class again, with another default."""
    held = next(f.metadata[_KEY] for f in fields(declared) if f.name == name)
    return field(default=default, metadata={_KEY: replace(held, default=default, default_words=default_words)})


def _named(made: Option, name: str) -> Option:
    if made.argument:
        return replace(made, name=name, flags=(name.upper(),))
    return replace(made, name=name, flags=made.flags or (f"--{name.replace('_', '-')}",))


def _plain(kind: Kind, value: Any) -> Any:
    if isinstance(kind, Pairs):
        return [f"{name}={held}" for name, held in value]
    if isinstance(value, tuple):
        return [str(item) if isinstance(item, Path) else item for item in value]
    return str(value) if isinstance(value, Path) else value
