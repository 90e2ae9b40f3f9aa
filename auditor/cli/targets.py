"""The files of a report: which are written, how, and what is said where one cannot be."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from auditor.cli.screen import busy, stderr
from auditor.errors import UsageError
from auditor.output_formats import to_stdout
from auditor.text import printable

DEFAULT_FOLDER = Path("fl-audit-report")
DEFAULT_FILES = ("results.json", "report.html", "report.pdf")


def check_targets(output: Sequence[Path], folder: Path | None) -> None:
    """Raise UsageError now if a file or the folder of a report could not be written; it names the option."""
    from auditor.report import check_outputs

    check_outputs(output)
    if folder is None:
        return
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--out {printable(str(folder))} is a file", "name a folder, or use -o for a file")
    check_outputs([folder / name for name in DEFAULT_FILES], "--out")


def targets_of(out: Path | None, output: Sequence[Path]) -> tuple[list[Path], Path | None]:
    """Return the files to write and the report folder, if there is one."""
    folder = out if out is not None else None if output else DEFAULT_FOLDER
    files = list(output)
    if folder is not None:
        files += [folder / name for name in DEFAULT_FILES]
    return files, folder


def split(output: Sequence[Path], json: bool = False) -> tuple[list[Path], Path | None]:
    """Return the files to write, and what goes to standard output, if anything does.

    Raises
    ------
    UsageError
        Two outputs would be mixed there.
    """
    printed = [path for path in (*output, *([Path("-")] if json else [])) if to_stdout(path)]
    if len(set(printed)) > 1:
        raise UsageError("two outputs are to go to standard output", "write one of them to a file")
    return [path for path in output if not to_stdout(path)], printed[0] if printed else None


def print_output(results: dict[str, Any], path: Path) -> None:
    """Write one output to standard output, and nothing else."""
    from auditor.report import rendered

    sys.stdout.flush()
    sys.stdout.buffer.write(rendered(results, path))
    sys.stdout.flush()


@contextmanager
def no_empty_folders(targets: Sequence[Path]) -> Iterator[None]:
    """Take back the folders that a scan made for its report when it ends without one."""
    made = [folder for folder in sorted({t.parent for t in targets}, reverse=True) if not folder.exists()]
    try:
        yield
    except BaseException:
        for folder in made:
            with suppress(OSError):
                folder.rmdir()
        raise


def write_all(results: dict[str, Any], targets: Sequence[Path], *, explicit: bool) -> None:
    """Write every file; a PDF that cannot be made is an error only where it was asked for by name.

    Raises
    ------
    UnwrittenError
        Some could not be written (a full disk).
    """
    from auditor.report import PdfUnavailableError, write

    try:
        with busy("writing the report"):
            complaints = write(results, list(targets))
    except PdfUnavailableError as error:
        if explicit:
            raise
        complaints = (str(error),)
    for complaint in complaints:
        stderr().print(f"fl-audit: {printable(complaint, 400)}", markup=False, highlight=False, soft_wrap=True)
