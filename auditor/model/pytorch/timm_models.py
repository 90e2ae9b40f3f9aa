"""Image architectures of timm, run on every frame of a clip; nothing is downloaded."""

import difflib
from collections.abc import Mapping
from typing import Any

from auditor.errors import UsageError
from auditor.model.pytorch.arguments import check_arguments, constructor_error
from auditor.model.pytorch.built import Built
from auditor.model.pytorch.torchvision_models import FRAMES, refuse_fetching
from auditor.model.sandbox.user_file import in_a_line
from auditor.text import printable

FETCHING = (
    "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir", "pretrained_strict",
)  # fmt: skip


def from_timm(name: str, classes: int | None, arguments: Mapping[str, Any]) -> Built:
    """Build an architecture of timm with random weights.

    Raises
    ------
    UsageError
        timm is not installed, has no such model, or that takes other arguments.
    """
    try:
        import timm
    except ImportError as error:
        raise UsageError(
            f"timm cannot be imported ({in_a_line(error)})", "install it: pip install 'fl-audit[timm]'"
        ) from error
    shown = f"timm:{printable(name)}"
    # Only names of architectures: timm takes addresses as names too, and would fetch them.
    if ":" in name or "/" in name or not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), 3, 0.4)
        hint = f"did you mean {', '.join(near)}?" if near else "timm.list_models() lists them"
        raise UsageError(f"timm has no model '{printable(name)}'", hint)
    refuse_fetching(shown, arguments, FETCHING)
    check_arguments(shown, timm.model_entrypoint(name), arguments)
    options: dict[str, Any] = {} if classes is None else {"num_classes": classes}
    try:
        network = timm.create_model(name, pretrained=False, **(options | dict(arguments)))
    except Exception as error:
        raise constructor_error(shown, error, arguments, lambda: timm.create_model(name, pretrained=False)) from error
    config = getattr(network, "pretrained_cfg", None) or {}
    return Built(
        network,
        printable(name),
        (FRAMES, *_size(config, arguments)),
        "NCHW",
        config.get("mean"),
        config.get("std"),
        origin="published by timm",
        weighted=False,
    )


def _size(config: Mapping[str, Any], arguments: Mapping[str, Any]) -> tuple[int, int, int]:
    """Return (channel, height, width) of a frame."""
    channels, height, width = config.get("input_size", (3, 224, 224))
    size = arguments.get("img_size")
    if isinstance(size, int):
        height, width = size, size
    elif isinstance(size, list) and len(size) == 2:
        height, width = size
    return int(arguments.get("in_chans", channels)), int(height), int(width)
