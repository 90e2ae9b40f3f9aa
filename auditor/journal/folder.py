"""What is done stays done: one file a finished unit, written aside and moved into place."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save

from auditor.errors import UsageError
from auditor.records import Clip
from auditor.report.atomic import replace_file
from auditor.text import printable

# A file that is written to see whether any can be.
WRITABLE = "writable"


class Journal:
    """A folder of units by key: results as JSON, clips and weights as safetensors.

    The JSON is written last: a unit counts as done only when it can be read back whole.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def check(self) -> None:
        """Raise UsageError now if nothing can be written here."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            replace_file(self.folder / WRITABLE, b"")
            (self.folder / WRITABLE).unlink()
        except OSError as error:
            raise UsageError(
                f"cannot write into {printable(str(self.folder))} ({error.strerror or type(error).__name__})",
                "name another folder with --out",
            ) from error

    def read(self, key: str) -> dict[str, Any] | None:
        """Return what a unit left, or None where it is not done; a damaged file is not done."""
        try:
            found = json.loads((self.folder / f"{key}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) and found.get("key") == key else None

    def write(self, key: str, result: Mapping[str, Any], tensors: Mapping[str, torch.Tensor] | None = None) -> None:
        """Keep what a unit made."""
        if tensors:
            content = save({name: t.detach().cpu().contiguous() for name, t in tensors.items()})
            replace_file(self.folder / f"{key}.safetensors", content)
        text = json.dumps({"key": key, **result}, allow_nan=False, sort_keys=True)
        replace_file(self.folder / f"{key}.json", text.encode("utf-8"))

    def tensors(self, key: str) -> dict[str, torch.Tensor]:
        """Return the tensors of a unit that is done.

        Raises
        ------
        OSError
            They are not there or damaged: the unit has to be made again.
        """
        path = self.folder / f"{key}.safetensors"
        try:
            return load_file(path)
        except Exception as error:
            (self.folder / f"{key}.json").unlink(missing_ok=True)
            raise OSError(f"{path.name} cannot be read") from error

    def clip(self, key: str, name: str = "clip") -> Clip:
        """Return one clip of a unit, in [0, 1]."""
        return self.tensors(key)[name].float() / 255.0


def stored(clip: Clip) -> torch.Tensor:
    """Return a clip as it is kept: 8 bits a value, at most 1/510 away (54 dB and more)."""
    return (clip.detach().cpu().clamp(0.0, 1.0) * 255.0).round().to(torch.uint8)
