"""From what the user typed to a Target: the model loaded, described, and checked against independent witnesses."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from auditor.errors import NotAuditable, UsageError
from auditor.model.from_onnx import load_onnx
from auditor.model.from_pytorch import load_pytorch
from auditor.model.onnx_file import PICKLE, ZIP
from auditor.model.options import LoadOptions
from auditor.model.weights import is_safetensors
from auditor.records import Target
from auditor.text import printable

FACTORY = "give the model as path/file.py:factory, with its state dict in --weights"


def load(source: str, *, weights: Path | None = None, **choices: Any) -> Target:
    """Load a model for an audit.

    Parameters
    ----------
    source
        An ONNX file (told by its content), `path/file.py:factory` (executed), or `torchvision:NAME`.
    weights
        Safetensors or a state dict, for PyTorch models; without it they keep what the factory gives them.
    choices
        Fields of `LoadOptions`.

    Raises
    ------
    UsageError
        The source or an option is wrong.
    NotAuditable
        The model is unreadable, unsupported, or holds nothing that clients train.
    """
    begun = time.monotonic()
    options = LoadOptions(**choices)
    if source.startswith("torchvision:"):
        target = load_pytorch(source, "torchvision", weights, options)
    elif _names_a_factory(source):
        target = load_pytorch(source, "pytorch", weights, options)
    else:
        target = _load_file(Path(source), weights, options)
    return replace(target, source=printable(source, 500), seconds=time.monotonic() - begun)


def _names_a_factory(source: str) -> bool:
    path, colon, name = source.rpartition(":")
    return bool(colon) and not Path(source).exists() and (path.endswith(".py") or name.isidentifier()) and len(path) > 1


def _load_file(path: Path, weights: Path | None, options: LoadOptions) -> Target:
    shown = printable(str(path), 300)
    if not path.exists():
        raise UsageError(f"there is no file {shown}", "give an ONNX file, path/file.py:factory, or torchvision:NAME")
    if path.is_dir():
        raise UsageError(f"{shown} is a folder", "give the ONNX file inside it")
    if not path.is_file():
        raise UsageError(f"{shown} is not a regular file", "give an ONNX file")
    if path.suffix == ".py":
        raise UsageError(f"{shown} is a Python file", f"name the function that returns the model: {shown}:factory")
    with path.open("rb") as stream:
        head = stream.read(9)
    if head.startswith((ZIP, PICKLE)):
        raise NotAuditable(
            f"{shown} is a PyTorch archive, which can run code when loaded or holds no architecture", FACTORY
        )
    if is_safetensors(head, path.stat().st_size):
        raise NotAuditable(f"{shown} holds weights without an architecture", FACTORY)
    if weights is not None:
        raise UsageError("--weights does not apply to an ONNX file, which carries its own", "leave --weights out")
    return load_onnx(path, options)
