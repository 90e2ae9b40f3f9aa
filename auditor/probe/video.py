"""Clips from video files (PyAV) and from folders of frames (Pillow)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

from auditor.errors import UsageError
from auditor.records import Clip

# Frames are shrunk to this shorter side while reading: four times what the largest common video model reads, so that
# nothing that an audit could use is lost, and a 4K clip fits into memory.
_SHORT_SIDE = 512


def read_video(path: Path, name: str, most: int) -> Clip:
    """Return the first `most` frames of the first video stream, (frame, 3, height, width) in [0, 1], turned upright.

    Raises
    ------
    UsageError
        Not a video, damaged, or without a single frame.
    """
    import av
    import av.logging

    # FFmpeg's own messages would reach the terminal; everything they say that matters becomes our error.
    before = av.logging.get_level()
    av.logging.set_level(None)
    frames: list[np.ndarray] = []
    try:
        with av.open(str(path.absolute())) as container:
            if not container.streams.video:
                raise UsageError(f"{name} holds no video stream", "give a video, a folder of frames or an .npz")
            for frame in container.decode(video=0):
                frames.append(np.rot90(_shrunk(frame), k=round(frame.rotation / 90)))
                if len(frames) == most:
                    break
    except (av.error.FFmpegError, OSError, ValueError, MemoryError) as error:
        raise UsageError(
            f"cannot decode {name} (unreadable, damaged or not a video)", "re-encode it, e.g. as H.264 in .mp4"
        ) from error
    finally:
        av.logging.set_level(before)
    return _stack(frames, name)


def _shrunk(frame: Any) -> np.ndarray:
    """Return the frame as uint8 RGB, by area averaging if its shorter side exceeds the limit."""
    width, height = frame.width, frame.height
    scale = min(1.0, _SHORT_SIDE / min(width, height))
    return frame.to_ndarray(
        format="rgb24", width=max(1, round(width * scale)), height=max(1, round(height * scale)), interpolation="AREA"
    )


def read_images(files: Sequence[Path], name: str) -> Clip:
    """Return one frame a file, (frame, 3, height, width) in [0, 1], in the order given.

    Raises
    ------
    UsageError
        A file is damaged or no image, or the sizes differ.
    """
    frames: list[np.ndarray] = []
    for file in files:
        try:
            with Image.open(file) as image:
                upright = ImageOps.exif_transpose(image).convert("RGB")
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise UsageError(f"cannot read frame {len(frames) + 1} of {name}", "export it again as PNG") from error
        scale = min(1.0, _SHORT_SIDE / min(upright.size))
        if scale < 1:
            size = (max(1, round(upright.width * scale)), max(1, round(upright.height * scale)))
            upright = upright.resize(size, Image.Resampling.BOX)
        frames.append(np.asarray(upright))
    return _stack(frames, name)


def _stack(frames: list[np.ndarray], name: str) -> Clip:
    if not frames:
        raise UsageError(f"{name} holds no frame", "a clip needs at least two frames")
    if len({frame.shape for frame in frames}) > 1:
        raise UsageError(f"the frames of {name} differ in size", "resize them to one size")
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float().div(255)
