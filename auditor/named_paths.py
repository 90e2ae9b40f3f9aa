"""Whether what the user named on the command line is there and readable, before anything slow is imported."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from auditor.errors import UsageError
from auditor.text import printable

PREFIXES = ("torchvision", "timm", "hf", "pretrained")
SOURCES = (
    "an ONNX file, path/file.py:factory, package.module:factory, torchvision:NAME, timm:NAME, hf:FOLDER, or "
    "pretrained:NAME"
)


def names_a_factory(source: str) -> bool:
    """Tell `path/file.py:name` and `package.module:name` from the path of a file."""
    path, colon, name = source.rpartition(":")
    if not colon or os.path.exists(source):  # also false for what can be no path
        return False
    return path.endswith(".py") or (name.isidentifier() and len(path) > 1)


def check_named(options: Any) -> None:
    """Raise UsageError where options name a model, weights, clips or code that are not there, or may not be read."""
    for name in ("model", "source", "extractor", "head"):
        source = getattr(options, name, None)
        if source:
            check_source(source)
    for name in ("weights", "extractor_weights", "head_weights"):
        path = getattr(options, name, None)
        if path is not None:
            check_readable([path], f"check the path after --{name.replace('_', '-')}")
    check_readable(getattr(options, "probes", ()), "check the path of the probe clips")
    for name in ("onnx_ops", "sr"):
        check_readable(getattr(options, name, ()), f"check the path after --{name.replace('_', '-')}")
    for name in ("loss", "file"):
        _check_code(getattr(options, name, None))


def _check_code(source: str | Path | None) -> None:
    """Raise UsageError where `path/file.py:name`, or the path of a study, names a file that is not there."""
    if isinstance(source, Path):
        check_readable([source], "give a study file, such as examples/rasul2025.toml")
    elif source and source.rpartition(":")[0].endswith(".py"):
        check_readable([Path(source.rpartition(":")[0])], "give path/file.py:name")


def check_source(source: str) -> None:
    """Raise UsageError where a model's source names a file that is not there, or that may not be read."""
    prefix, colon, rest = source.partition(":")
    if colon and prefix in PREFIXES:
        if prefix == "hf":
            check_readable([Path(rest)], "give hf:FOLDER")
        return
    if names_a_factory(source):
        file = source.rpartition(":")[0]
        if file.endswith(".py"):
            check_readable([Path(file)], "give path/file.py:factory")
        return
    check_readable([Path(source)], f"give {SOURCES}")


def check_readable(paths: Iterable[Path], remedy: str) -> None:
    """Raise UsageError for the first path that does not exist, or that may not be read."""
    for path in paths:
        shown = printable(str(path), 300)
        if not os.path.exists(path):
            raise UsageError(f"there is no file {shown}", remedy)
        if not os.access(path, os.R_OK):
            raise UsageError(f"{shown} may not be read (permission denied)", "change its permissions, or copy it")
