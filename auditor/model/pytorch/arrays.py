"""Weights that NumPy saved (.npz), by name or in the order of the network's state, as Flower's servers write them."""

import io
import math
import re
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from auditor.errors import NotAuditable

LARGEST = 4 * 2**30
NUMBERED = re.compile(r"arr_(\d+)$")
SAVE = "save it with numpy.savez(FILE, **{name: value.numpy() for name, value in model.state_dict().items()})"
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def is_npz(path: Path) -> bool:
    """Tell an archive of arrays by its members."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return False
    return bool(names) and all(name.endswith(".npy") for name in names)


def read_npz(path: Path, name: str) -> tuple[dict[str, Tensor], bool]:
    """Return the arrays of an archive, and whether their order alone tells what each is.

    Raises
    ------
    NotAuditable
        It is damaged or too large, or holds what is no array of numbers.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if sum(member.file_size for member in members) > LARGEST:
                raise NotAuditable(f"{name} holds more than {LARGEST // 2**30} GiB", "give a smaller file")
            found = {m.filename.removesuffix(".npy"): _array(archive.read(m), name) for m in members}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        raise NotAuditable(f"{name} is a damaged NumPy archive", "copy it again") from error
    numbers = {key: NUMBERED.match(key) for key in found}
    if not all(numbers.values()):
        return found, False
    return {key: found[key] for key in sorted(found, key=lambda key: int(key.removeprefix("arr_")))}, True


def _array(content: bytes, name: str) -> Tensor:
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    shape, _, dtype = HEADERS[version](stream)
    if dtype.hasobject or dtype.kind not in "fiub":
        raise NotAuditable(f"{name} holds arrays of {'Python objects' if dtype.hasobject else str(dtype)}", SAVE)
    if math.prod(shape) * dtype.itemsize != len(content) - stream.tell():
        raise ValueError("size")
    stream.seek(0)
    array = np.lib.format.read_array(stream, allow_pickle=False)
    native = np.ascontiguousarray(array, dtype.newbyteorder("=")).reshape(shape)
    if native.dtype.kind == "u" and native.dtype.itemsize > 1:
        native = native.astype(np.int64)
    return torch.from_numpy(native)
