"""The configuration file: the one that is named, else the nearest fl-audit.toml or [tool.fl-audit]."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from auditor.errors import UsageError
from auditor.gate.toml_file import read_toml
from auditor.text import printable

OWN_FILE, SHARED_FILE, TABLE = "fl-audit.toml", "pyproject.toml", "fl-audit"


@dataclass(frozen=True, slots=True)
class ConfigurationFile:
    """A file with options by name; `folder` is what its paths are relative to."""

    path: Path
    values: Mapping[str, Any]

    @property
    def folder(self) -> Path:
        """The folder that relative paths start from."""
        return self.path.parent

    @property
    def name(self) -> str:
        """How messages call it."""
        return printable(os.path.relpath(self.path), 200) + (
            f" [tool.{TABLE}]" if self.path.name == SHARED_FILE else ""
        )


def find_configuration(start: Path) -> ConfigurationFile | None:
    """Return the nearest configuration of a folder: its own, else that of a folder above within the repository.

    Outside a repository only the folder itself is looked at: what lies above may be anybody's, and a configuration may
    name code to run. In one folder fl-audit.toml comes before pyproject.toml.
    """
    for folder in _folders(start):
        if (folder / OWN_FILE).is_file():
            return ConfigurationFile(folder / OWN_FILE, read_toml(folder / OWN_FILE))
        shared = folder / SHARED_FILE
        values = _table(shared) if shared.is_file() else None
        if values is not None:
            return ConfigurationFile(shared, values)
    return None


def named_configuration(path: Path) -> ConfigurationFile:
    """Return the configuration of a file that was named.

    Raises
    ------
    UsageError
        It cannot be read, is no TOML, or is a pyproject.toml without the table.
    """
    if path.name != SHARED_FILE:
        return ConfigurationFile(path, read_toml(path))
    values = _table(path)
    if values is None:
        raise UsageError(f"{printable(str(path), 200)} has no table [tool.{TABLE}]", "add it, or name another file")
    return ConfigurationFile(path, values)


def _folders(start: Path) -> Iterator[Path]:
    repository = next((folder for folder in (start, *start.parents) if (folder / ".git").exists()), start)
    for folder in (start, *start.parents):
        yield folder
        if folder == repository:
            return


def _table(path: Path) -> Mapping[str, Any] | None:
    tool = read_toml(path).get("tool")
    found = tool.get(TABLE) if isinstance(tool, Mapping) else None
    if found is not None and not isinstance(found, Mapping):
        raise UsageError(f"{printable(str(path), 200)}: tool.{TABLE} is no table", f"write [tool.{TABLE}]")
    return found
