"""Networks that do not take one clip as it is: what a module around them would have to do."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from auditor.errors import UsageError
from auditor.model.checks.describe import sample_clips
from auditor.model.output import select
from auditor.model.video import VideoModel
from auditor.text import printable

SEE = "see Several inputs in docs/pytorch.md"
# From a clip (batch, channel, frame, height, width) to what people's networks read, as Python spells it.
WAYS: Mapping[str, Callable[[Tensor], Any]] = {
    "x[:, None]": lambda x: x[:, None],
    "x.transpose(1, 2).flatten(1, 2)": lambda x: x.transpose(1, 2).flatten(1, 2),
    "[x[:, :, ::4], x]": lambda x: [x[:, :, ::4], x],
    "[x[:, :, ::8], x]": lambda x: [x[:, :, ::8], x],
    "{'x': x}": lambda x: {"x": x},
}


def check_forward(network: nn.Module, shown: str) -> None:
    """Refuse a network whose forward needs more than one argument.

    Raises
    ------
    UsageError
        With the names of its arguments.
    """
    try:
        parameters = inspect.signature(network.forward).parameters.values()
    except (TypeError, ValueError):
        return
    needed = [
        p.name for p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    if len(needed) > 1:
        names = ", ".join(printable(name, 40) for name in needed[:5])
        rest = ", ".join(f"... as {printable(name, 40)}" for name in needed[1:3])
        raise UsageError(
            f"forward of {shown} needs {len(needed)} inputs ({names})",
            f"return a module that makes them from one clip: def forward(self, x): return self.net(x, {rest}); {SEE}",
        )


def wrapper_hint(model: VideoModel, seed: int) -> str:
    """Return what to do where the network runs on something made of the clip; empty if on nothing that is known."""
    x = model.prepare(sample_clips(model.spec, 1, seed))
    ways = WAYS if model.spec.layout == "NCTHW" else {}
    text = next((text for text, way in ways.items() if _runs(model, way, x)), "")
    if not text:
        return ""
    return f"it runs on {text}: return a module with def forward(self, x): return self.net({text}); {SEE}"


def _runs(model: VideoModel, way: Callable[[Tensor], Any], x: Tensor) -> bool:
    try:
        with torch.no_grad():
            logits = select(model.network(way(x)), model.wanted_output)
    except Exception:  # noqa: BLE001 - the network is the user's and may raise anything
        return False
    return logits.dim() > 1 and logits.shape[0] == 1 and logits.is_floating_point()
