"""Which way into PyTorch a source takes: told by its prefix, or by what its file holds."""

import os
from pathlib import Path

from auditor.errors import NotAuditable, UsageError
from auditor.model.pytorch.resave import resave_line
from auditor.model.sandbox.contents import Content, identify
from auditor.model.sandbox.foreign_formats import folder
from auditor.named_paths import PREFIXES, SOURCES, check_readable, names_a_factory, no_name
from auditor.text import printable


def form_of(source: str, *, trusted: bool) -> str:
    """Return onnx, pytorch (a factory), torchvision, timm, hf, pretrained, exported, torchscript or pickle.

    Raises
    ------
    UsageError
        There is no such file, or it is of no kind that can be read.
    NotAuditable
        It holds no model, or could run code and is not `trusted`.
    """
    prefix = source.partition(":")[0]
    if prefix in PREFIXES and ":" in source:
        return prefix
    if names_a_factory(source):
        return "pytorch"
    path = Path(source)
    shown = printable(source, 300)
    if not os.path.exists(path):  # also false for what can be no path
        raise UsageError(f"there is no file {shown}", f"give {SOURCES}")
    if path.is_dir():
        found = folder(path)
        raise UsageError(f"{shown} is {found.what}", found.remedy)
    if not path.is_file():
        raise UsageError(f"{shown} is not a regular file", "give an ONNX file")
    if path.suffix == ".py":
        raise no_name(source)
    check_readable([path], f"give {SOURCES}")
    content = identify(path)
    if content.kind == "onnx" or (trusted and content.kind in ("exported", "torchscript", "pickle")):
        return content.kind
    raise NotAuditable(f"{shown} is {content.what}", _remedy(path, content))


def _remedy(path: Path, content: Content) -> str:
    if content.kind == "foreign":
        return content.remedy
    shown = printable(str(path), 200)
    if content.kind == "weights":
        return f"give the architecture too: path/file.py:factory --weights {shown}"
    return (
        f"save its weights without code, {resave_line(path, content.kind)}, and give path/file.py:factory --weights "
        "weights.pt; or add --trust-model if you know where it comes from"
    )
