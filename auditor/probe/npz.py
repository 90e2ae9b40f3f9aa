"""Clips from NumPy's `.npz`, without pickles."""

import zipfile
from pathlib import Path

import numpy as np
import torch

from auditor.errors import UsageError
from auditor.probe.fit import PICTURES
from auditor.records import Clip


def read_npz(path: Path, name: str, channels: int) -> Clip:
    """Return the clip in [0, 1], (frame, channel, height, width).

    `channels` is what the model reads: it tells which axis holds channels where the shape alone does not.

    Raises
    ------
    UsageError
        Not an archive of one four-dimensional array of uint8, or of floats in [0, 1].
    """
    array = _only_array(path, name)
    if array.ndim != 4:
        raise UsageError(
            f"{name} holds an array of {array.ndim} dimensions {array.shape}",
            "store one clip a file as (frame, height, width, channel)",
        )
    if array.size == 0:
        raise UsageError(f"{name} holds an empty array {array.shape}", "store at least two frames")
    return _channel_second(torch.from_numpy(_unit(array, name)), name, channels)


def _only_array(path: Path, name: str) -> np.ndarray:
    try:
        # An open file: given a path, NumPy leaves a damaged archive open.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            keys = arrays.files
            chosen = keys[0] if len(keys) == 1 else next((k for k in ("clip", "frames") if k in keys), None)
            if chosen is None:
                raise UsageError(f"{name} holds {len(keys)} arrays", "store one array, or name it clip")
            return arrays[chosen]
    except (
        OSError,
        ValueError,
        EOFError,
        KeyError,
        TypeError,
        MemoryError,
        AttributeError,
        zipfile.BadZipFile,
    ) as error:
        raise UsageError(
            f"cannot read {name} as .npz", "write it by numpy.savez_compressed, without objects"
        ) from error


def _unit(array: np.ndarray, name: str) -> np.ndarray:
    """Return float32 in [0, 1]."""
    if array.dtype == np.uint8:
        return array.astype(np.float32) / 255
    if array.dtype.kind != "f":
        raise UsageError(f"{name} holds values of type {array.dtype}", "store uint8, or floats in [0, 1]")
    if not np.isfinite(array).all():
        raise UsageError(f"{name} holds NaN or infinite values", "store finite pixel values in [0, 1]")
    low, high = float(array.min()), float(array.max())
    if low < 0 or high > 1:
        raise UsageError(f"{name} holds values from {low:.4g} to {high:.4g}", "scale pixels to [0, 1], or store uint8")
    return array.astype(np.float32)


def _channel_second(clip: torch.Tensor, name: str, channels: int) -> Clip:
    likely = (channels, 3, 1)
    last, second = clip.shape[3], clip.shape[1]
    if last in likely and (second not in likely or likely.index(last) <= likely.index(second)):
        return clip.permute(0, 3, 1, 2).contiguous()
    if second in likely:
        return clip
    raise UsageError(
        f"no axis of {name} {tuple(clip.shape)} looks like channels",
        f"store (frame, height, width, channel) with {_counted(channels)}",
    )


def _counted(channels: int) -> str:
    return "1 or 3 channels" if channels in PICTURES else f"{channels} channels, as the model reads"
