"""From what the user typed to a Target: the model loaded, described, and checked against independent witnesses."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from auditor.errors import AuditError, NotAuditable, UsageError
from auditor.model.joining import compose
from auditor.model.onnx.from_onnx import load_onnx
from auditor.model.onnx.surgery import changed_file
from auditor.model.parts import Part, Role, onnx_part, pytorch_part
from auditor.model.pytorch.from_pytorch import load_pytorch
from auditor.model.pytorch.sources import form_of
from auditor.model.reading_options import LoadOptions
from auditor.records import Target
from auditor.text import printable

UNFORESEEN = "cannot be loaded"


def load(source: str, *, weights: Path | None = None, **choices: Any) -> Target:
    """Load a model for an audit.

    Parameters
    ----------
    source
        A file (told by its content), `path/file.py:factory` or `package.module:factory` (executed),
        `torchvision:NAME`, `timm:NAME`, `hf:FOLDER`, or `pretrained:NAME`.
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
    if options.join is not None:
        raise UsageError("--join applies to two-part models only", "leave --join out, or give --extractor and --head")
    form = form_of(source, trusted=options.trust_model)
    if form == "onnx":
        if weights is not None:
            raise UsageError("--weights does not apply to an ONNX file, which carries its own", "leave --weights out")
        if options.arg:
            raise UsageError("--arg does not apply to an ONNX file", "leave --arg out")
        target = _load_onnx(Path(source), options) if options.change is None else _load_changed(Path(source), options)
    elif options.onnx_ops:
        raise UsageError("--onnx-ops applies to ONNX files only", "leave --onnx-ops out")
    else:
        target = load_pytorch(source, form, weights, options)
    return replace(target, source=printable(source, 500), seconds=time.monotonic() - begun)


def _load_onnx(path: Path, options: LoadOptions) -> Target:
    """Load an ONNX file; what nobody foresaw in it ends in one line as well."""
    try:
        return load_onnx(path, options)
    except AuditError:
        raise
    except Exception as error:
        what = printable(f"{type(error).__name__}: {error}".split("\n")[0], 200)
        raise NotAuditable(
            f"{printable(path.name)} {UNFORESEEN} ({what})", "export the model again, or report this file"
        ) from error


def _load_changed(path: Path, options: LoadOptions) -> Target:
    """Load a changed copy of an ONNX file, and note what was done."""
    assert options.change is not None
    with changed_file(path, options.change, options.seed) as (copy, told):
        target = _load_onnx(copy, replace(options, change=None))
    fidelity = replace(target.fidelity, notes=(told, *target.fidelity.notes))
    return replace(target, fidelity=fidelity)


def load_two_part(
    extractor: str,
    head: str,
    *,
    extractor_weights: Path | None = None,
    head_weights: Path | None = None,
    **choices: Any,
) -> Target:
    """Load a frozen feature extractor and a head that clients train as one model, see docs/two-part.md.

    Parameters
    ----------
    extractor, head
        Any source that `load` takes.
    extractor_weights, head_weights
        As `weights` of `load`, for each part.
    choices
        Fields of `LoadOptions`; the shape, layout and normalisation of clips are the extractor's, classes the head's.

    Raises
    ------
    UsageError, NotAuditable
        As `load`; or the parts do not fit each other.
    """
    begun = time.monotonic()
    options = LoadOptions(**choices)
    if options.arg:
        raise UsageError("--arg does not say which part it is for", "write factories that need no arguments")
    parts = (_part(extractor, extractor_weights, "extractor", options), _part(head, head_weights, "head", options))
    target = compose(*parts, options)
    source = f"{printable(extractor, 250)} and {printable(head, 250)}"
    return replace(target, source=source, seconds=time.monotonic() - begun)


def _part(source: str, weights: Path | None, role: Role, options: LoadOptions) -> Part:
    try:
        form = form_of(source, trusted=options.trust_model)
        if form != "onnx":
            return pytorch_part(source, form, weights, role, options)
        if weights is not None:
            raise UsageError(
                f"--{role}-weights does not apply to an ONNX file, which carries its own",
                f"leave --{role}-weights out",
            )
        return onnx_part(Path(source), role, options)
    except (UsageError, NotAuditable) as error:
        raise type(error)(f"--{role}: {error.cause}", error.remedy) from error
