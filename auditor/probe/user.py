"""The user's own clips: video files, folders of frames, arrays."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from auditor.errors import UsageError
from auditor.probe.fit import fit, own_window
from auditor.probe.npz import read_npz
from auditor.probe.video import read_images, read_video
from auditor.records import Clip, InputSpec, Probe, record
from auditor.text import printable

IMAGES = (".png", ".jpg", ".jpeg", ".bmp")
# A longer clip is read up to here: an audit needs a window, not a film.
_MOST_FRAMES = 128
# A tenth of a gallery: neighbouring windows of one clip repeat one another.
_MOST_MOMENTS = 8
# A scene is known by few frames: attacks interpolate between them.
_MOST_REFERENCES = 8


def user_probes(path: Path, spec: InputSpec) -> tuple[Probe, ...]:
    """Read clips: a video file, an `.npz`, a folder of frames (one clip), or a folder of any of these (several clips).

    A clip gives the central window of its first 128 frames (or twice the model's frames, if that is more), at every
    second frame where there are enough. Frames of a folder go in natural order (2 before 10). An `.npz` holds one
    array, (frame, height, width, channel) or (frame, channel, height, width), uint8 or float in [0, 1].
    `sha256` is that of the file, or of all frame files one after another.

    Raises
    ------
    UsageError
        Nothing there, unreadable, not a clip, fewer than two frames where the model reads several, or values out of
        range.
    """
    if not path.exists():
        raise UsageError(f"{_name(path)} does not exist", "check the path of the probe clips")
    clips = _clips(path)
    if not clips:
        raise UsageError(
            f"the folder {_name(path)} holds no clip",
            f"put in videos, .npz files or frames ({', '.join(IMAGES)})",
        )
    return tuple(_probe(clip, spec) for clip in clips)


@record
class SceneFrames:
    """Frames of a scene at the model's size, oldest first, and what is to be told of them."""

    frames: Clip
    notes: tuple[str, ...] = ()


def reference_frames(path: Path, spec: InputSpec) -> SceneFrames:
    """Return frames of a scene: a picture, the frames of a folder, or those of a clip.

    More than eight are thinned out evenly, from the first to the last of the first 128.

    Raises
    ------
    UsageError
        As `user_probes`.
    """
    if not path.exists():
        raise UsageError(f"{_name(path)} does not exist", "check the path of the reference frames")
    others = 0
    if path.is_dir():
        entries = [e for e in _entries(path) if e.name[0] != "."]
        files = sorted((e for e in entries if e.suffix.lower() in IMAGES), key=_natural)
        if not files:
            raise UsageError(f"the folder {_name(path)} holds no frames", "give a picture, a video or an .npz")
        others = len(entries) - len(files)
    else:
        files = [path]
    if files[0].suffix.lower() in IMAGES:
        # Pictures of one scene may differ in size.
        chosen = [files[i] for i in _evenly(len(files))]
        read = [read_images([file], _name(file))[:1] for file in chosen]
    else:
        shown = _reader(path, files, spec)(_name(path), _MOST_FRAMES)[:_MOST_FRAMES]
        read = [shown[i : i + 1] for i in _evenly(len(shown))]
    made = torch.cat([fit(frame, replace(spec, frames=1), 0, 1)[0] for frame in read])
    sizes = sorted({(frame.shape[-2], frame.shape[-1]) for frame in read} - {(spec.height, spec.width)})
    resized = ", ".join(f"{height}x{width}" for height, width in sizes)
    notes = [f"resized from {resized} to the model's {spec.height}x{spec.width}"] if sizes else []
    if others:
        notes.append(f"left out what is no frame: {others} of the folder's {others + len(files)} entries")
    return SceneFrames(frames=made, notes=tuple(notes))


def _evenly(count: int) -> list[int]:
    if count <= _MOST_REFERENCES:
        return list(range(count))
    return [round(i * (count - 1) / (_MOST_REFERENCES - 1)) for i in range(_MOST_REFERENCES)]


def _clips(path: Path) -> list[Path]:
    """Return what each holds one clip: the path itself, or the entries of a folder of clips."""
    if not path.is_dir():
        return [path]
    entries = sorted((e for e in _entries(path) if e.name[0] != "."), key=_natural)
    frames = [e for e in entries if e.suffix.lower() in IMAGES]
    if not frames:
        return [e for e in entries if not e.is_dir() or any(f.suffix.lower() in IMAGES for f in _entries(e))]
    if len(frames) < len(entries):
        other = next(e for e in entries if e not in frames)
        raise UsageError(
            f"the folder {_name(path)} mixes frames with other files ({_name(other)})", "keep one clip per folder"
        )
    return [path]


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise UsageError(f"cannot open the folder {_name(folder)}", "check its permissions") from error


def _probe(path: Path, spec: InputSpec) -> Probe:
    name = _name(path)
    most = max(_MOST_FRAMES, 2 * spec.frames)
    files = sorted((f for f in _entries(path) if f.suffix.lower() in IMAGES), key=_natural) if path.is_dir() else [path]
    frames = _reader(path, files, spec)(name, most)
    if len(frames) < min(2, spec.frames):
        raise UsageError(f"{name} holds {len(frames)} frame", "a clip needs at least two frames")
    frames = frames[:most]
    clip, native = fit(frames, spec, *own_window(len(frames), spec.frames))
    return Probe(
        name=name,
        kind="user",
        clip=clip,
        native=native,
        sha256=_sha256(files),
        source=printable(str(path)),
        moments=_other_moments(frames, spec),
    )


def _other_moments(frames: Clip, spec: InputSpec) -> tuple[Clip, ...]:
    """Return windows of the footage beside its central one, evenly spread; shorter ones where it holds no more."""
    start, length = own_window(len(frames), spec.frames)
    length = min(length, max(2, len(frames) * 4 // 5))
    last = len(frames) - length
    count = min(_MOST_MOMENTS, last + 1)
    starts = [round(i * last / max(1, count - 1)) for i in range(count)]
    return tuple(fit(frames, spec, s, length)[0] for s in starts if s != start)


def _reader(path: Path, files: list[Path], spec: InputSpec) -> Callable[[str, int], Clip]:
    if path.is_dir():
        return lambda name, most: read_images(files[:most], name)
    if path.suffix.lower() in (".npz", ".npy"):
        return lambda name, most: read_npz(path, name, spec.channels)
    return lambda name, most: read_video(path, name, most)


def _sha256(files: list[Path]) -> str:
    total = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                total.update(chunk)
    return total.hexdigest()


def _natural(path: Path) -> list[tuple[int, str]]:
    """Return a key that sorts frame2 before frame10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path.name)]


def _name(path: Path) -> str:
    return printable(path.name or str(path))
