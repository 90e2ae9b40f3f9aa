"""Networks that do not take one clip as it is: what a module around them would have to do."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from auditor.errors import UsageError
from auditor.model.checks.describe import sample_clips
from auditor.model.output import select
from auditor.model.pytorch.modality import of_several_inputs
from auditor.model.video import VideoModel
from auditor.text import printable

SEE = "see Several inputs in docs/pytorch.md"
# From a clip (batch, channel, frame, height, width) to what people's networks read, as Python spells it.
WAYS: Mapping[str, Callable[[Tensor], Any]] = {
    "[x]": lambda x: [x],
    "x[:, None]": lambda x: x[:, None],
    "x.transpose(1, 2).flatten(1, 2)": lambda x: x.transpose(1, 2).flatten(1, 2),
    "[x[:, :, ::4], x]": lambda x: [x[:, :, ::4], x],
    "[x[:, :, ::8], x]": lambda x: [x[:, :, ::8], x],
    "x[..., None]": lambda x: x[..., None],
}
# The same, whatever the order of axes.
ANY_ORDER: Mapping[str, Callable[[Tensor], Any]] = {
    "[x]": WAYS["[x]"],
    "(255 * x).to(torch.uint8)": lambda x: (255 * x).to(torch.uint8),
}


class _ClipByName(dict[str, Tensor]):
    """A clip under whatever name it is asked for; keeps the names."""

    def __init__(self, clip: Tensor) -> None:
        super().__init__()
        self.clip, self.names = clip, dict[str, None]()

    def __getitem__(self, name: str) -> Tensor:
        self.names[name] = None
        return self.clip

    def get(self, name: str, default: Any = None) -> Any:
        """Return the clip; for a second name what was offered instead."""
        return self[name] if not self.names or name in self.names else default

    def __contains__(self, name: object) -> bool:
        return not self.names or name in self.names


def check_forward(network: nn.Module, shown: str) -> None:
    """Refuse a network whose forward needs more than one argument, takes it by name only, or is missing.

    Raises
    ------
    UsageError
        With the names of its arguments.
    NotAuditable
        Its inputs are no clips.
    """
    if getattr(type(network), "forward", None) is nn.Module.forward and "forward" not in vars(network):
        raise UsageError(f"{shown} has no forward", "return a network that computes logits from a batch of clips")
    try:
        parameters = inspect.signature(network.forward).parameters.values()
    except (TypeError, ValueError):
        return
    named = [p.name for p in parameters if p.default is p.empty and p.kind is p.KEYWORD_ONLY]
    if named:
        name = printable(named[0], 40)
        raise UsageError(
            f"forward of {shown} takes '{name}' by name only",
            f"return a module that passes it on: def forward(self, x): return self.net({name}=x); {SEE}",
        )
    needed = [
        p.name for p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    if len(needed) > 1:
        other = of_several_inputs(network, shown)
        if other is not None:
            raise other
        names = ", ".join(printable(name, 40) for name in needed[:5])
        rest = ", ".join(f"... as {printable(name, 40)}" for name in needed[1:3])
        raise UsageError(
            f"forward of {shown} needs {len(needed)} inputs ({names})",
            f"return a module that makes them from one clip: def forward(self, x): return self.net(x, {rest}); {SEE}",
        )


def wrapper_hint(model: VideoModel, seed: int) -> str:
    """Return what to do where the network runs on something made of clips; where on nothing known, what it may want."""
    x = model.prepare(sample_clips(model.spec, 2, seed))
    if model.spec.value_range == (0.0, 1.0) and _runs(model, lambda x: 255 * x, x):
        return "it runs on pixels from 0 to 255: give --range 0,255"
    ways = {**ANY_ORDER, **(WAYS if model.spec.layout == "NCTHW" else {})}
    text = next((text for text, way in ways.items() if _runs(model, way, x)), "") or _by_name(model, x)
    if not text:
        return f"check --input-shape and --layout; for what reads a dict, a list or states as well, {SEE}"
    return f"it runs on {text}: return a module with def forward(self, x): return self.net({text}); {SEE}"


def _by_name(model: VideoModel, x: Tensor) -> str:
    """Return the dict that the network runs on, where it asks for one clip by one name; empty where it does not."""
    asked = _ClipByName(x)
    if not _runs(model, lambda _: asked, x) or len(asked.names) != 1:
        return ""
    return "{" + repr(printable(str(*asked.names), 40)) + ": x}"


def _runs(model: VideoModel, way: Callable[[Tensor], Any], x: Tensor) -> bool:
    try:
        with torch.no_grad():
            logits = select(model.network(way(x)), model.wanted_output)
    except Exception:  # noqa: BLE001 - the network is the user's and may raise anything
        return False
    return logits.dim() > 1 and logits.shape[0] == 2 and logits.is_floating_point()
