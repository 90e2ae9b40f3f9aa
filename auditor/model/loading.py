"""From what the user typed to a Target: the model loaded, described, and checked against independent witnesses."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from auditor.errors import UsageError
from auditor.model.from_onnx import load_onnx
from auditor.model.from_pytorch import load_pytorch
from auditor.model.options import LoadOptions
from auditor.model.sources import form_of
from auditor.records import Target
from auditor.text import printable


def load(source: str, *, weights: Path | None = None, **choices: Any) -> Target:
    """Load a model for an audit.

    Parameters
    ----------
    source
        A file (told by its content), `path/file.py:factory` or `package.module:factory` (executed),
        `torchvision:NAME`, `timm:NAME`, or `hf:FOLDER`.
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
    form = form_of(source, trusted=options.trust_model)
    if form == "onnx":
        if weights is not None:
            raise UsageError("--weights does not apply to an ONNX file, which carries its own", "leave --weights out")
        if options.arguments:
            raise UsageError("--arg does not apply to an ONNX file", "leave --arg out")
        target = load_onnx(Path(source), options)
    else:
        target = load_pytorch(source, form, weights, options)
    return replace(target, source=printable(source, 500), seconds=time.monotonic() - begun)
