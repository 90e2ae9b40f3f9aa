"""The files of an audit: kind by suffix, checked before the scan, written whole."""

import importlib
import os
import shlex
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from auditor.errors import UsageError
from auditor.output_formats import FORMATS, suffix_of
from auditor.report.atomic import replace_file
from auditor.report.pdf import PdfUnavailableError
from auditor.report.plain import plain
from auditor.results.protection.seal import sealed
from auditor.results.reading import check_results
from auditor.text import printable

Results = Mapping[str, Any]
Warnings = tuple[str, ...]
Writer = Callable[[Results], str | bytes | tuple[bytes, Warnings]]


class UnwrittenError(UsageError):
    """Some files could not be written; the others were."""

    def __init__(self, failed: Mapping[Path, str], written: Sequence[Path]) -> None:
        causes = ", ".join(f"{printable(str(path))} ({reason})" for path, reason in failed.items())
        kept = next((path for path in written if path.suffix.lower() == ".json"), None)
        lost = next(iter(failed))
        remedy = "choose another place with -o, or --out for a folder"
        if kept is not None:
            again = f"fl-audit report {shlex.quote(str(kept))} -o {shlex.quote(str(lost))}"
            remedy = (
                f"written: {', '.join(printable(str(p)) for p in written)}; make room, then: {printable(again, 400)}"
            )
        super().__init__(f"cannot write {causes}", remedy)
        self.written = tuple(written)


def write(results: Results, paths: Sequence[Path | str]) -> Warnings:
    """Write every output, each of the format that its suffix names; return warnings worth showing.

    Whatever one of them needs and lacks, the other files are there.

    Raises
    ------
    UsageError
        A suffix is unknown.
    UnwrittenError
        A file cannot be written (a full disk); every other file was.
    PdfUnavailableError
        A PDF was asked for and cannot be drawn here; every other file was written.
    """
    prepared: Results = sealed(plain(results))
    check_results(prepared)
    complaints: list[str] = []
    unavailable: PdfUnavailableError | None = None
    failed: dict[Path, str] = {}
    for writer, path in [(_writer(Path(path)), Path(path)) for path in paths]:
        try:
            complaints += _write(path, writer(prepared))
        except PdfUnavailableError as error:
            unavailable = error
        except OSError as error:
            failed[path] = error.strerror or type(error).__name__
    if failed:
        raise UnwrittenError(failed, [path for path in map(Path, paths) if path not in failed and path.exists()])
    if unavailable is not None:
        raise unavailable
    return tuple(complaints)


def check_outputs(paths: Sequence[Path | str], option: str = "-o") -> None:
    """Raise UsageError now, rather than after the scan, if one of `paths`, given by `option`, could not be written."""
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
            reason = error.strerror or type(error).__name__
            raise UsageError(
                f"cannot write {printable(str(path))} ({reason})", f"choose another place with {option}"
            ) from None


def rendered(results: Results, path: Path) -> bytes:
    """Return the content of the file that a path names, `-` of results.json.

    Raises
    ------
    UsageError
        A suffix is unknown.
    """
    prepared: Results = sealed(plain(results))
    check_results(prepared)
    made = _writer(Path("-.json") if str(path) == "-" else path)(prepared)
    content = made[0] if isinstance(made, tuple) else made
    return content.encode("utf-8") if isinstance(content, str) else content


def _writer(path: Path) -> Writer:
    try:
        module, name = FORMATS[suffix_of(path)].split(":")
    except KeyError:
        known = ", ".join(FORMATS)
        raise UsageError(
            f"cannot tell the kind of {printable(str(path))}",
            f"end its name in one of {known}; a folder goes with --out",
        ) from None
    writer: Writer = getattr(importlib.import_module(module), name)
    return writer


def _write(path: Path, made: str | bytes | tuple[bytes, Warnings]) -> Warnings:
    content, complaints = made if isinstance(made, tuple) else (made, ())
    replace_file(path, content.encode("utf-8") if isinstance(content, str) else content)
    return complaints
