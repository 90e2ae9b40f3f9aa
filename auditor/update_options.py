"""Options about an update that was captured; `auditor.options` lists them beside all others."""

from functools import partial
from pathlib import Path

from auditor.declaring import declaration, option
from auditor.terms import CAPTURED, OUTPUT
from auditor.values import FilePath, Switch, Text

_captured = partial(option, panel=CAPTURED)
_THERE = "an .npz, a .safetensors file or a state dict"


@declaration
class CapturedUpdate:
    """An update from files: one file, or the weights after training and before it (the model's own if not given)."""

    update: Path | None = _captured(
        None,
        FilePath(remedy=_THERE),
        "Update that a client sent: .npz, .safetensors or a state dict; a gradient, or with fedavg a difference of "
        "weights or the weights.",
    )
    after: Path | None = _captured(None, FilePath(remedy=_THERE), "Weights that a client sent after local training.")
    before: Path | None = _captured(
        None,
        FilePath(remedy=_THERE),
        "Weights that the client began with; the model takes them.",
        default_words="the model's own",
    )

    @property
    def given(self) -> bool:
        """Whether any file was given."""
        return any(path is not None for path in (self.update, self.after, self.before))


@declaration
class ReplayedClip:
    """The clip behind a captured update, which whoever replays it knows, and what is printed."""

    clip: str = _captured("park_walker", Text("CLIP"), "Clip that the client trained on, as for `attack`.")
    label: str | None = _captured(
        None, Text("LABEL", numbers=True), "What the client trained it as.", default_words="restored"
    )
    json: bool = option(False, Switch(), "Print JSON and nothing else.", panel=OUTPUT)
