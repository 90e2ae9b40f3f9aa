"""Where a scan keeps its finished parts until its report is written, and what an interrupt says of them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from auditor.errors import UsageError
from auditor.output_formats import to_stdout

_FOLDER = "unfinished"
_SUFFIX = ".unfinished"
# What the scan at work has finished, for the line that ends it.
_parts: list[Any] = []


def unfinished_folder(targets: Sequence[Path], folder: Path | None) -> Path | None:
    """Return the folder for finished parts: in the report folder, else beside the first file; None without files."""
    if folder is not None:
        return folder / _FOLDER
    files = (target for target in targets if not to_stdout(target))
    return next((path.with_name(path.name + _SUFFIX) for path in files), None)


def kept_in(folder: Path) -> list[Path]:
    """Return the folders of finished parts in a report folder."""
    return [path for path in (folder / _FOLDER, *sorted(folder.glob(f"*{_SUFFIX}"))) if path.is_dir()]


@contextmanager
def resuming(folder: Path | None, tell: Callable[[str], None]) -> Iterator[Any]:
    """Keep what a scan finishes in a folder while active, and take up what is there; yield None without a folder."""
    if folder is None:
        yield None
        return
    from auditor.content_key import program_key
    from auditor.journal import journaling

    with journaling(folder, program_key(), tell) as parts:
        _parts[:] = [parts]
        yield parts


def finished(folder: Path | None) -> None:
    """Remove the parts of a scan whose report is written, unless the next one has begun there by now."""
    if folder is not None and folder.is_dir():
        from auditor.journal import clear

        with suppress(UsageError):
            clear(folder)


def unfinished_words(lost: str = "no report was written") -> str:
    """Say what an interrupted command leaves behind, and what is `lost`."""
    count = _parts[0].units if _parts else 0
    if not count:
        return lost
    parts = "one finished part is" if count == 1 else f"{count} finished parts are"
    return f"{lost}; {parts} kept, and the same command goes on from there"
