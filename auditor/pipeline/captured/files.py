"""Files that hold an update, which nobody vouches for: told by content, and never larger than an update can be."""

import hashlib
import os
import zipfile
from pathlib import Path

from auditor.errors import NotAuditable, UsageError
from auditor.model.pytorch.weights import Weights, folder_remedy, named_tensors
from auditor.text import printable

SAVE = (
    "save the tensors alone: numpy.savez(FILE, **{name: array}), safetensors.torch.save_file, or "
    "torch.save(state_dict, FILE)"
)
# What is said of files that did not arrive whole.
_AGAIN = "copy"
# A checkpoint in double precision with what Adam keeps takes 32 bytes a value; JSON headers and names come on top.
_BYTES_PER_VALUE, _ROOM = 64, 64 * 2**20


def read_update_file(path: Path, flag: str, values: int) -> Weights:
    """Return the tensors of a file, for a model that holds so many `values`.

    Raises
    ------
    UsageError
        There is no such file, it is too large to be an update of this model, or holds anything but tensors.
    """
    name = printable(path.name)
    if not os.path.exists(path):  # also false for what can be no path
        raise UsageError(f"there is no file {printable(str(path))}", f"check the path given to {flag}")
    if path.is_dir():
        raise UsageError(
            f"{flag} {printable(str(path))} is a folder", folder_remedy(path).replace("to --weights", f"to {flag}")
        )
    if not path.is_file():
        raise UsageError(f"{flag} {printable(str(path))} is not a file", SAVE)
    _check_size(path, name, _BYTES_PER_VALUE * values + _ROOM)
    try:
        return named_tensors(path)
    except NotAuditable as error:
        raise UsageError(error.cause, error.remedy if error.remedy.startswith(_AGAIN) else SAVE) from error


def digest(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _check_size(path: Path, name: str, most: int) -> None:
    """Refuse before anything is read what is too large, packed or unpacked."""
    size = path.stat().st_size
    if size <= most and zipfile.is_zipfile(path):
        try:
            with zipfile.ZipFile(path) as archive:
                size = sum(member.file_size for member in archive.infolist())
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
            return  # damaged: the reader says so
    if size > most:
        raise UsageError(
            f"{name} holds {size / 2**30:.1f} GiB, and an update of this model at most {most / 2**30:.1f}",
            "give an update of this model alone",
        )
