"""Whether what the user named on the command line is there and readable, before anything slow is imported."""

import ast
import difflib
import os
import re
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from auditor.errors import UsageError
from auditor.text import printable

PREFIXES = ("torchvision", "timm", "hf", "pretrained")
# What gives a module names that its text does not spell.
DYNAMIC = frozenset({"globals", "setattr", "exec", "locals", "vars", "__getattr__", "__dict__", "sys"})
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
    for name in ("weights", "extractor_weights", "head_weights", "update", "before", "after"):
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
        place, _, name = source.rpartition(":")
        if place.endswith(".py"):
            check_readable([Path(place)], "give path/file.py:factory")
            _check_defined(Path(place), name)
        else:
            _check_module(place)
        return
    check_readable([Path(source)], f"give {SOURCES}")
    if source.endswith(".py") and os.path.isfile(source):
        raise no_name(source)


def no_name(source: str) -> UsageError:
    """Return what to say of a Python file without the name of what to call in it."""
    shown = printable(source, 300)
    return UsageError(f"{shown} is a Python file", f"name the function that returns the model: {shown}:factory")


def no_module(name: str) -> UsageError:
    """Return what to say of a module that cannot be imported."""
    return UsageError(
        f"there is no module {printable(name)}", "run from the folder that holds it, install it, or give path/file.py"
    )


def not_defined(where: str, name: str, names: Iterable[str]) -> UsageError:
    """Return what to say of a name that a file or a module does not define, with those of `names` that are near."""
    near = difflib.get_close_matches(name, [known for known in names if not known.startswith("_")], 3)
    hint = f"did you mean {', '.join(map(printable, near))}?" if near else "name a function that returns the model"
    return UsageError(f"{where} defines no '{printable(name)}'", hint)


def _check_module(name: str) -> None:
    """Raise UsageError where no package of that name is in the current folder or installed."""
    top = name.partition(".")[0]
    if top in sys.modules or not top.isidentifier():
        return
    sys.path.insert(0, os.getcwd())
    try:
        found = find_spec(top)
    except (ValueError, ImportError, OSError):
        return
    finally:
        sys.path.pop(0)
    if found is None:
        raise no_module(name)


def _check_defined(path: Path, name: str) -> None:
    """Raise UsageError where a file does not hold a name at all, and makes none while it runs."""
    try:
        text = path.read_text()
        names = set(re.findall(r"\w+", text))
        if name in names or not DYNAMIC.isdisjoint(names) or re.search(r"import\s+\*", text):
            return
        tree = ast.parse(text)
    except (OSError, ValueError, SyntaxError, RecursionError, MemoryError):
        return  # told where it is executed
    defined = (node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef)))
    raise not_defined(printable(str(path), 300), name, defined)


def check_readable(paths: Iterable[Path], remedy: str) -> None:
    """Raise UsageError for the first path that does not exist, or that may not be read."""
    for path in paths:
        shown = printable(str(path), 300)
        if not os.path.exists(path):
            closed = _closed_folder(path)
            if closed:
                raise UsageError(f"{closed} may not be entered (permission denied)", "change its permissions")
            raise UsageError(f"there is no file {shown}", remedy)
        if not os.access(path, os.R_OK):
            raise UsageError(f"{shown} may not be read (permission denied)", "change its permissions, or copy it")


def _closed_folder(path: Path) -> str:
    """Return the folder on the way to a path that may not be looked into; empty where all may."""
    for folder in path.parents:
        if os.path.exists(folder):
            return "" if os.access(folder, os.X_OK) else printable(str(folder), 300)
    return ""
