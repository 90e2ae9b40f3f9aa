"""The files of a comparison, each written whole."""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from auditor.errors import UsageError
from auditor.output_formats import COMPARISON_FORMATS
from auditor.report.atomic import replace_file
from auditor.report.outputs import UnwrittenError
from auditor.report.pdf import PdfUnavailableError
from auditor.report.plain import plain
from auditor.results.reading import check_comparison
from auditor.text import printable


def write_comparison(results: Mapping[str, Any], paths: Sequence[Path]) -> tuple[str, ...]:
    """Write every file, of the format that its suffix names; return warnings worth showing.

    Raises
    ------
    UsageError
        A suffix is unknown.
    UnwrittenError
        A file cannot be written; every other file was.
    """
    found = plain(results)
    check_comparison(found)
    complaints: list[str] = []
    failed: dict[Path, str] = {}
    for path in paths:
        try:
            content, told = _content(found, path)
            replace_file(path, content)
            complaints += told
        except PdfUnavailableError as error:
            complaints.append(str(error))
        except OSError as error:
            failed[path] = error.strerror or type(error).__name__
    if failed:
        raise UnwrittenError(failed, [path for path in paths if path not in failed and path.exists()])
    return tuple(complaints)


def rendered_comparison(results: Mapping[str, Any], path: Path) -> bytes:
    """Return the content of the file of that suffix.

    Raises
    ------
    UsageError
        The suffix is unknown.
    """
    return _content(plain(results), path)[0]


def check_suffixes(paths: Sequence[Path]) -> None:
    """Raise UsageError for the first path whose suffix names no format of a comparison."""
    for path in paths:
        if path.suffix.lower() not in COMPARISON_FORMATS:
            raise UsageError(
                f"cannot tell the kind of {printable(str(path))}",
                f"end its name in one of {', '.join(COMPARISON_FORMATS)}; a folder goes with --out",
            )


def _content(results: Mapping[str, Any], path: Path) -> tuple[bytes, tuple[str, ...]]:
    check_suffixes([path])
    module, name = COMPARISON_FORMATS[path.suffix.lower()].split(":")
    made = getattr(importlib.import_module(module), name)(results)
    content, told = made if isinstance(made, tuple) else (made, ())
    return content.encode("utf-8") if isinstance(content, str) else content, told
