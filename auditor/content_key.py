"""What a scan's results depend on, as one digest: the same digest means that a scan would find the same again."""

import hashlib
import json
import platform
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import auditor
from auditor.options import ScanOptions

# The gate is applied afterwards, and the command is only told.
_NOT_MEASURED = ("fail_on",)
# What the arithmetic comes from.
_LIBRARIES = ("torch", "torchvision", "numpy", "onnx", "onnxruntime-gpu", "onnxruntime", "av", "pillow", "scipy")
_BLOCK = 1 << 20


def content_key(options: ScanOptions) -> str:
    """Return the digest (hex) of options, files, version and libraries; empty where something cannot be digested.

    That is a factory in Python, a loss in Python, or a name of a package: what they do does not stand in one file.
    """
    files = list(_files(options))
    if not files or any(path is None for path in files):
        return ""
    digest = hashlib.sha256()
    told = {k: v for k, v in options.as_json().items() if k not in _NOT_MEASURED}
    digest.update(json.dumps([program_key(), told], sort_keys=True, default=str).encode())
    try:
        for path in files:
            for name, content in _content(path):
                digest.update(f"\x1f{name}\x1f{content}".encode("utf-8", "replace"))
    except OSError:
        return ""
    return digest.hexdigest()


def program_key() -> str:
    """Return a digest (hex) of what computes: this program, its libraries and the kind of machine."""
    told = {
        "version": auditor.__version__,
        "program": _program(),
        "python": platform.python_version(),
        "machine": (platform.machine(), platform.system(), Path("/dev/nvidia0").exists()),
        "libraries": [(name, _version(name)) for name in _LIBRARIES],
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _files(options: ScanOptions) -> Iterator[Any]:
    """Every file that is read, None for what cannot be told."""
    for source in filter(None, (options.model, options.extractor, options.head)):
        path = Path(source)
        yield path if path.suffix == ".onnx" and path.is_file() else None
        yield from _external_data(path) if path.is_file() and path.suffix == ".onnx" else ()
    if options.loss.rpartition(":")[0].endswith(".py") or options.onnx_ops:
        yield None
    singles = (options.weights, options.extractor_weights, options.head_weights, options.lpips, options.replay)
    yield from (path for path in singles if path is not None)
    yield from (*options.probes, *options.sr)
    yield from (Path(text) for text in options.reference if not text.startswith("first:"))


def _external_data(path: Path) -> Iterator[Path]:
    """Files around an ONNX file that may hold its weights: those whose place it names."""
    content = path.read_bytes()
    if b"location" in content:  # the key that every tensor outside the file has
        around = sorted(p for p in path.parent.rglob("*") if p.is_file() and p != path)
        yield from (p for p in around if p.relative_to(path.parent).as_posix().encode() in content)


def _content(path: Path) -> Iterator[tuple[str, str]]:
    """Name and digest of a file, or of every file of a folder."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    for file in files:
        digest = hashlib.sha256()
        with file.open("rb") as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
        yield str(file.relative_to(path)) if path.is_dir() else path.name, digest.hexdigest()


def _program() -> str:
    """A digest of this program's own files: a version number alone would miss what was changed in a checkout."""
    root = Path(auditor.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return digest.hexdigest()


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
