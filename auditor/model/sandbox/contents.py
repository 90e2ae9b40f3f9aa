"""What a file or a folder holds, told by its content and never by its name; nothing in it is executed."""

import json
import pickletools
import struct
import zipfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Literal

from auditor.model.sandbox.foreign_formats import by_first_bytes, by_members, by_text
from auditor.records import record

Kind = Literal["onnx", "weights", "exported", "torchscript", "pickle", "foreign"]

HEAD = 4096
# First bytes of what torch.save writes: a zip archive since 1.6, a pickle before.
ZIP, PICKLE = b"PK\x03\x04", b"\x80"
LARGEST_PICKLE = 64 * 2**20
# torch wrote archives as four pickles and raw storages before 1.6; the third and fourth hold the objects.
LEGACY_PICKLES = 4
# Modules whose names a pickle of tensors may call.
PLAIN_GLOBALS = ("torch", "torch._utils", "torch.storage", "torch._tensor", "collections", "_codecs")
PLAIN_PREFIXES = ("numpy",)


@record
class Content:
    """What a file holds.

    Attributes
    ----------
    kind
        onnx (also whatever nothing else was recognised in), weights (tensors without an architecture), exported
        (a torch.export program), torchscript, pickle (Python objects), or foreign (nothing that can be audited).
    what
        In words, to follow "is".
    remedy
        What to do with a foreign file.
    """

    kind: Kind
    what: str
    remedy: str = ""


def is_safetensors(head: bytes, size: int) -> bool:
    """Tell a safetensors file by its first nine bytes: the length of a JSON header, then its brace."""
    return len(head) == 9 and head[8:] == b"{" and struct.unpack("<Q", head[:8])[0] <= size - 8


def identify(path: Path) -> Content:
    """Tell what a regular file holds."""
    with path.open("rb") as stream:
        head = stream.read(HEAD)
        if is_safetensors(head[:9], path.stat().st_size):
            return Content(kind="weights", what="a safetensors file, which holds weights without an architecture")
        if head.startswith(ZIP):
            return _archive(stream)
        if head.startswith(PICKLE):
            stream.seek(0)
            return _pickled(stream, LEGACY_PICKLES)
    if head.lstrip()[:1] == b"{" and _indexes_shards(path):
        return Content(kind="weights", what="the index of a sharded checkpoint, which holds no architecture")
    found = by_first_bytes(head) or by_text(head)
    if found:
        return Content(kind="foreign", what=found.what, remedy=found.remedy)
    return Content(kind="onnx", what="an ONNX file")


def _archive(stream: IO[bytes]) -> Content:
    try:
        with zipfile.ZipFile(stream) as archive:
            names = set(archive.namelist())
            tails = {name.partition("/")[2] for name in names}
            if any(tail.startswith("data/aotinductor/") for tail in tails):
                return Content(
                    kind="foreign",
                    what="a compiled model (AOTInductor), which has no gradients",
                    remedy="give the module or the torch.export program that it was compiled from",
                )
            if _is_exported(names, tails):
                return Content(kind="exported", what="a torch.export program, which can run code when loaded")
            if "constants.pkl" in tails or any(tail.startswith("code/") for tail in tails):
                return Content(kind="torchscript", what="a TorchScript archive, which can run code when loaded")
            if ".data/extern_modules" in tails:
                return Content(kind="pickle", what="a torch.package archive, which runs code when loaded")
            data = next((info for info in archive.infolist() if info.filename.partition("/")[2] == "data.pkl"), None)
            if data is not None:
                if data.file_size > LARGEST_PICKLE:
                    return Content(kind="pickle", what="a PyTorch archive with an unusually large pickle")
                with archive.open(data) as member:
                    return _pickled(member, 1)
            found = by_members(names)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, ValueError):
        return Content(kind="foreign", what="a truncated or damaged zip archive", remedy="copy it again")
    return Content(kind="foreign", what=found.what, remedy=found.remedy)


def _is_exported(names: set[str], tails: set[str]) -> bool:
    new = "archive_format" in tails and any(tail.startswith("models/") for tail in tails)
    return new or "serialized_exported_program.json" in names


def _pickled(stream: IO[bytes], pickles: int) -> Content:
    """Tell tensors from objects by the names that a pickle would call, which are read without running it."""
    try:
        called = list(islice(_globals(stream, pickles), 10_000))
    except (ValueError, IndexError, OverflowError, MemoryError, zipfile.BadZipFile, OSError):
        called = []  # damaged: the reader of weights says so
    if all(module in PLAIN_GLOBALS or module.partition(".")[0] in PLAIN_PREFIXES for module in called):
        return Content(kind="weights", what="a state dict, which holds weights without an architecture")
    return Content(kind="pickle", what="a pickle of Python objects, which runs code when loaded")


def _globals(stream: IO[bytes], pickles: int) -> Iterator[str]:
    """Yield the modules whose members a pickle names."""
    for _ in range(pickles):
        texts: list[str] = []
        for code, argument, _ in pickletools.genops(stream):
            if code.name == "GLOBAL":
                yield str(argument).partition(" ")[0]
            elif code.name == "STACK_GLOBAL":
                yield texts[-2] if len(texts) > 1 else "?"
            elif code.name == "INST":
                yield "?"
            elif isinstance(argument, str):
                texts = [*texts[-1:], argument]


def _indexes_shards(path: Path) -> bool:
    if path.stat().st_size > LARGEST_PICKLE:
        return False
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return False
    return isinstance(content, dict) and isinstance(content.get("weight_map"), dict)
