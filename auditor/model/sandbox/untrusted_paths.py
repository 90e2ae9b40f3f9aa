"""Opening files that an untrusted file names: what is checked is what is read, because it is opened once."""

import os
import stat
from pathlib import Path

from auditor.errors import NotAuditable, UsageError
from auditor.text import printable

LARGEST_FILE = 4 * 2**30
AGAIN = "export the model again"
ONLY_IF_KNOWN = "only load this model if you know where it comes from, and save it again with its data beside it"
# A pipe must not make us wait, nor a terminal become ours.
FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_CLOEXEC", 0)
FLAGS |= getattr(os, "O_BINARY", 0)
NO_LINK = getattr(os, "O_NOFOLLOW", 0)
FOLDER = getattr(os, "O_DIRECTORY", 0)


def read_regular(path: Path) -> bytes:
    """Return the content of a file that the user named; it may be reached through links.

    Raises
    ------
    UsageError
        It cannot be opened.
    NotAuditable
        It is a pipe, a device or a folder, or larger than LARGEST_FILE.
    """
    name = printable(path.name)
    try:
        descriptor = os.open(path, FLAGS)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no path"
        raise UsageError(f"cannot read {name} ({reason})", "check the path and its permissions") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise NotAuditable(f"{name} is not a regular file", "give an ONNX file")
        if status.st_size > LARGEST_FILE:
            raise NotAuditable(
                f"{name} has {status.st_size / 2**30:.1f} GiB (at most {LARGEST_FILE / 2**30:.0f} GiB are read)", AGAIN
            )
        return _content(descriptor, status.st_size)
    finally:
        os.close(descriptor)


def read_beside(folder: Path, location: str) -> bytes:
    """Return the content of a data file below a folder, named by a file that nobody vouches for.

    Every part of the path is opened without following links, and the checks are made on what was opened.

    Raises
    ------
    NotAuditable
        The location leads elsewhere, through a link, to something other than a plain file with one name, or to more
        than LARGEST_FILE bytes.
    """
    shown = printable(location) or "(empty)"
    parts = location.split("/")
    if (
        not location
        or any(part in ("", ".", "..") for part in parts)
        or any(sign in location for sign in ("\0", "\\", ":"))
        or Path(location).is_absolute()
    ):
        raise NotAuditable(f"the model points at data outside its folder: '{shown}'", ONLY_IF_KNOWN)
    descriptor = _opened(folder, parts, shown)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise NotAuditable(f"the model's external data '{shown}' is not a regular file", ONLY_IF_KNOWN)
        if status.st_nlink != 1:
            raise NotAuditable(f"the model's external data '{shown}' is a hard link to another file", ONLY_IF_KNOWN)
        if status.st_size > LARGEST_FILE:
            raise NotAuditable(f"the model's external data '{shown}' exceeds {LARGEST_FILE / 2**30:.0f} GiB", AGAIN)
        return _content(descriptor, status.st_size)
    finally:
        os.close(descriptor)


def _opened(folder: Path, parts: list[str], shown: str) -> int:
    """Open a file below a folder, one part of its path after another."""
    try:
        if os.open not in os.supports_dir_fd:
            return _opened_by_path(folder, parts)
        at = os.open(folder, FLAGS | FOLDER)
        for i, part in enumerate(parts):
            above = at
            try:
                at = os.open(part, FLAGS | NO_LINK | (FOLDER if i + 1 < len(parts) else 0), dir_fd=above)
            finally:
                os.close(above)
        return at
    except (OSError, ValueError) as error:
        path = folder.joinpath(*parts)
        if any(os.path.islink(parent) for parent in (path, *list(path.parents)[: len(parts) - 1])):
            raise NotAuditable(
                f"the model's external data '{shown}' is a link, which may lead outside its folder",
                "copy the data file itself beside the model",
            ) from error
        if isinstance(error, FileNotFoundError):
            raise NotAuditable(
                f"the model's external data '{shown}' is missing", "copy it next to the ONNX file"
            ) from error
        raise NotAuditable(
            f"the model's external data '{shown}' is not a regular file that can be read", ONLY_IF_KNOWN
        ) from error


def _opened_by_path(folder: Path, parts: list[str]) -> int:
    """Do the same where the system cannot open relative to an open folder: look, open, and compare."""
    path = folder
    for part in parts:
        path = path / part
        looked = os.lstat(path)
        if stat.S_ISLNK(looked.st_mode) or getattr(looked, "st_reparse_tag", False):
            raise OSError("a link")
    descriptor = os.open(path, FLAGS)
    if not os.path.samestat(looked, os.fstat(descriptor)):
        os.close(descriptor)
        raise OSError("replaced while it was opened")
    return descriptor


def _content(descriptor: int, size: int) -> bytes:
    """Read at most `size` bytes: what a file grows by meanwhile is left out."""
    pieces = []
    while size > 0 and (piece := os.read(descriptor, min(size, 2**30))):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces) if len(pieces) != 1 else pieces[0]
