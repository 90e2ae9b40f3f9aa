"""The files of an audit: kind by suffix, checked before the scan, written whole."""

import importlib
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from auditor.errors import UsageError
from auditor.output_formats import FORMATS
from auditor.report.atomic import replace_file
from auditor.report.pdf import PdfUnavailableError
from auditor.report.plain import plain
from auditor.results.reading import check_results
from auditor.text import printable

Results = Mapping[str, Any]
Warnings = tuple[str, ...]
Writer = Callable[[Results], str | bytes | tuple[bytes, Warnings]]


def write(results: Results, paths: Sequence[Path | str]) -> Warnings:
    """Write every output, each of the format that its suffix names; return warnings worth showing.

    Whatever a PDF needs and lacks, the other files are there.

    Raises
    ------
    UsageError
        A suffix is unknown or a file cannot be written.
    PdfUnavailableError
        A PDF was asked for and cannot be drawn here; every other file was written.
    """
    prepared: Results = plain(results)
    check_results(prepared)
    complaints: list[str] = []
    unavailable: PdfUnavailableError | None = None
    for writer, path in [(_writer(Path(path)), path) for path in paths]:
        try:
            complaints += _write(path, writer(prepared))
        except PdfUnavailableError as error:
            unavailable = error
    if unavailable is not None:
        raise unavailable
    return tuple(complaints)


def check_outputs(paths: Sequence[Path | str]) -> None:
    """Raise UsageError now, rather than after the scan, if one of `paths` could not be written."""
    for path in map(Path, paths):
        _writer(path)
        if path.is_dir():
            raise UsageError(f"{printable(str(path))} is a folder", "name a file")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=path.parent):
                pass
            if path.exists() and not os.access(path, os.W_OK):
                raise PermissionError(13, "the file is write-protected")
        except OSError as error:
            raise _unwritable(path, error) from None


def _writer(path: Path) -> Writer:
    try:
        module, name = FORMATS[path.suffix.lower()].split(":")
    except KeyError:
        known = ", ".join(FORMATS)
        raise UsageError(
            f"cannot tell the kind of {printable(str(path))}",
            f"end its name in one of {known}; a folder goes with --out",
        ) from None
    writer: Writer = getattr(importlib.import_module(module), name)
    return writer


def _write(path: Path | str, made: str | bytes | tuple[bytes, Warnings]) -> Warnings:
    content, complaints = made if isinstance(made, tuple) else (made, ())
    try:
        replace_file(Path(path), content.encode("utf-8") if isinstance(content, str) else content)
    except OSError as error:
        raise _unwritable(Path(path), error) from None
    return complaints


def _unwritable(path: Path, error: OSError) -> UsageError:
    reason = error.strerror or type(error).__name__
    return UsageError(f"cannot write {printable(str(path))} ({reason})", "choose another place with -o")
