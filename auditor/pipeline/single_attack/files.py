"""The folder of one attack: frames, an animation, arrays and the document; whole, or as it was before."""

import io
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from auditor.errors import UsageError
from auditor.records import Clip, record
from auditor.results.attack import ATTACK, ATTACK_1
from auditor.results.updates.captured import CAPTURED
from auditor.text import printable

RESULT = "result.json"
FRAMES = ("reconstruction", "truth")
FILES = ("reconstruction.apng", "truth.apng", "strip.png", "arrays.npz")
# Playing speed of the animations: clips of eight frames last a second.
_MILLISECONDS = 125
# Frames of a strip are enlarged, pixel by pixel, to at least this height; at most this many are shown.
_STRIP_HEIGHT, _STRIP_FRAMES = 96, 16
_CAPTION, _GAP = 14, 2


@record
class Folder:
    """What a folder shows: clips frame by frame under names of `FRAMES`, a strip of named rows, and arrays."""

    clips: Mapping[str, Clip]
    rows: Mapping[str, Clip]
    arrays: Mapping[str, np.ndarray]


def check_folder(folder: Path, *, overwrite: bool = False) -> None:
    """Raise UsageError now, rather than after the attack, if results could not be put there.

    A folder may exist: results of an earlier attack in it are replaced where that is wanted, other files stay. What
    merely has a name of ours is never overwritten.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--out {printable(str(folder))} is a file", "name a folder")
    if folder.is_dir() and _is_ours(folder) and not overwrite:
        raise UsageError(
            f"--out {printable(str(folder))} holds the results of an earlier attack",
            "add --force, or name another folder",
        )
    if folder.is_dir() and not _is_ours(folder):
        taken = next((name for name in (*FRAMES, *FILES, RESULT) if (folder / name).exists()), None)
        if taken is not None:
            raise UsageError(
                f"--out {printable(str(folder))} holds a {taken} that no attack of fl-audit wrote",
                "name another folder",
            )
    place = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise _unwritable(folder, error) from None


def write_folder(shown: Folder, document: Mapping[str, Any], folder: Path, *, overwrite: bool = False) -> None:
    """Write everything aside, then move it into place; the document comes last and goes first.

    Raises
    ------
    UsageError
        The folder cannot be written.
    """
    check_folder(folder, overwrite=overwrite)
    made = [p for p in (folder, *folder.parents) if not p.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(dir=folder, prefix=".", suffix=".part"))
    except OSError as error:
        raise _unwritable(folder, error) from None
    try:
        _fill(aside, shown, document)
        _install(aside, folder)
    except OSError as error:
        raise _unwritable(folder, error) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        for parent in made:
            if not any(parent.iterdir()):
                parent.rmdir()


def _is_ours(folder: Path) -> bool:
    try:
        found = json.loads((folder / RESULT).read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(found, dict) and found.get("schema") in (ATTACK, ATTACK_1, CAPTURED)


def _fill(folder: Path, shown: Folder, document: Mapping[str, Any]) -> None:
    for name, clip in shown.clips.items():
        frames = pictures(clip)
        (folder / name).mkdir()
        for index, frame in enumerate(frames):
            frame.save(folder / name / f"{index:03d}.png")
        (folder / f"{name}.apng").write_bytes(animation(frames))
    strip(shown.rows).save(folder / "strip.png")
    np.savez_compressed(folder / "arrays.npz", **shown.arrays)  # type: ignore[arg-type]
    (folder / RESULT).write_text(json.dumps(document, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _install(aside: Path, folder: Path) -> None:
    (folder / RESULT).unlink(missing_ok=True)
    for name in (*FRAMES, *FILES, RESULT):
        old = folder / name
        if old.is_dir() and not old.is_symlink():
            shutil.rmtree(old)
        else:
            old.unlink(missing_ok=True)
        if (aside / name).exists():
            (aside / name).replace(old)


def pictures(clip: Clip) -> list[Image.Image]:
    """Return the frames in 8 bits: grey for one channel, the first three channels as colours otherwise."""
    levels = (clip.detach().cpu().float().nan_to_num(0.5).clamp(0.0, 1.0) * 255.0).round().byte()
    levels = levels[:, :1] if levels.shape[1] < 3 else levels[:, :3]
    return [Image.fromarray(f[0].numpy() if len(f) == 1 else f.permute(1, 2, 0).contiguous().numpy()) for f in levels]


def animation(frames: list[Image.Image]) -> bytes:
    """Return the frames as an animated PNG: lossless, and shown by every browser."""
    buffer = io.BytesIO()
    frames[0].save(buffer, format="PNG", save_all=True, append_images=frames[1:], duration=_MILLISECONDS, loop=0)
    return buffer.getvalue()


def strip(rows: Mapping[str, Clip]) -> Image.Image:
    """Return clips below each other, frame by frame, each with its name above."""
    shown = {name: _spread(pictures(clip)) for name, clip in rows.items()}
    first = next(iter(shown.values()))
    by = max(1, -(-_STRIP_HEIGHT // first[0].height))
    width, height = by * first[0].width, by * first[0].height
    sheet = Image.new("RGB", (len(first) * (width + _GAP), len(shown) * (_CAPTION + height)), "white")
    draw = ImageDraw.Draw(sheet)
    for row, (name, frames) in enumerate(shown.items()):
        top = row * (_CAPTION + height)
        draw.text((2, top), name, fill="black")
        for column, frame in enumerate(frames):
            big = frame.convert("RGB").resize((width, height), Image.Resampling.NEAREST)
            sheet.paste(big, (column * (width + _GAP), top + _CAPTION))
    return sheet


def _spread(frames: list[Image.Image]) -> list[Image.Image]:
    count = min(len(frames), _STRIP_FRAMES)
    return [frames[i] for i in np.linspace(0, len(frames) - 1, count).round().astype(int)]


def _unwritable(folder: Path, error: OSError) -> UsageError:
    reason = error.strerror or type(error).__name__
    return UsageError(f"cannot write {printable(str(folder))} ({reason})", "choose another place with --out")
