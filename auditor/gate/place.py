"""The line of a text file that stands for a model: where a pull request can show an alert."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from auditor.results.judgement import PlaceBlock

_FACTORY = re.compile(r"(?P<file>.+\.py):(?P<name>\w+)")
_LONGEST = 10_000


def place_of(model: Mapping[str, Any], configuration: Path | None = None) -> PlaceBlock | None:
    """Return the factory's line, else that of the configuration which names the model, else the model's file.

    None where nothing of it lies in the repository around the current folder, or under the folder itself.
    """
    root = _root()
    factory = _FACTORY.fullmatch(str(model["source"]))
    if factory is not None:
        definition = re.compile(rf"\s*(?:async\s+)?(?:def|class)\s+{factory['name']}\b|{factory['name']}\s*=")
        return _line(Path(factory["file"]), definition, root)
    if configuration is not None:
        found = _line(configuration, re.compile(r"\s*model\s*="), root)
        if found is not None:
            return found
    return _whole(Path(str(model["source"])), root)


def _root() -> Path:
    """The repository's root, which paths are told from; the current folder outside one."""
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / ".git").exists()), here)


def _line(file: Path, wanted: re.Pattern[str], root: Path) -> PlaceBlock | None:
    path = _inside(file, root)
    if path is None:
        return None
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines() or [""]
    number = next((n for n, line in enumerate(lines) if wanted.match(line)), 0)
    return PlaceBlock(path=path, line=number + 1, end_column=min(_LONGEST, len(lines[number])) + 1, text=True)


def _whole(file: Path, root: Path) -> PlaceBlock | None:
    path = _inside(file, root)
    return None if path is None else PlaceBlock(path=path, line=1, end_column=1, text=False)


def _inside(file: Path, root: Path) -> str | None:
    try:
        found = file.resolve()
        return found.relative_to(root.resolve()).as_posix() if found.is_file() else None
    except (OSError, ValueError):
        return None
