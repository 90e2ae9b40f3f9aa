"""A super-resolution network of the user's in an ONNX file, run by ONNX Runtime in a process of its own."""

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from auditor.enhance.interface import Enhanced
from auditor.enhance.weight_file import between_channels, finished, regular_file
from auditor.errors import AuditError, UsageError
from auditor.records import Clip, product_seconds
from auditor.runtime_process import EndedError, Session
from auditor.text import printable

# Sides of the trial run; a multiple of every window and stride in use.
_TRIAL = 64
# What a file can say that it reads: (frame, channel, height, width).
_AXES = 4
_ONE_LINE = 160
_EXPORT = 'torch.onnx.export(net, (torch.rand(1, 3, 64, 64),), "sr.onnx", dynamo=True)'


class OnnxNet:
    """Enlarges a clip frame by frame with a network that reads and returns RGB (or grey) in [0, 1] as NCHW.

    The scale is told by a trial run. A network of fixed input size enlarges clips of that size only. ONNX Runtime uses
    the GPU where torch finds one.

    Raises
    ------
    UsageError
        The file cannot be read, is no ONNX, or its network does not map one batch of frames to larger ones.
    """

    def __init__(self, path: Path) -> None:
        shown = printable(path.name)
        self.name = f"ONNX ({shown})"
        (self._content, self._weights), self._shown = _content(path, shown), shown
        self._session = _session(self._content, shown)
        if len(self._session.inputs) != 1 or len(self._session.inputs[0]) != _AXES:
            raise UsageError(
                f"the network of --sr {shown} does not read one batch of frames (NCHW)", f"export it by {_EXPORT}"
            )
        self._batch, channels, self._height, self._width = self._session.inputs[0]
        self._channels = channels or 3
        if self._channels not in (1, 3) or (self._batch or 1) != 1:
            raise UsageError(
                f"the network of --sr {shown} reads (frame, channel, height, width) = {self._session.inputs[0]}",
                f"export it for single RGB frames: {_EXPORT}",
            )
        height, width = self._height or _TRIAL, self._width or _TRIAL
        try:
            made = self._run(torch.full((1, self._channels, height, width), 0.5))
        except AuditError as error:
            raise UsageError(error.cause, f"export it by {_EXPORT}") from error
        self.scale = _scale(made, self._channels, height, width, shown)

    def __call__(self, clip: Clip) -> Enhanced:
        """Return (frame, channel, scale * height, scale * width) in [0, 1]."""
        start = time.monotonic()
        size = (self._height or clip.shape[-2], self._width or clip.shape[-1])
        if size != tuple(clip.shape[-2:]):
            raise AuditError(
                f"{self.name} reads frames of {size[0]}x{size[1]} only, and these have "
                f"{clip.shape[-2]}x{clip.shape[-1]}",
                "export it with dynamic height and width",
            )
        frames = between_channels(clip, self._channels)
        return finished(self, clip, torch.cat([self._run(frame) for frame in torch.split(frames, 1)]), start)

    def seconds_estimate(self, clip_shape: tuple[int, ...]) -> float:
        """Return the work of a clip of (frame, channel, height, width) in reference seconds.

        Every weight is taken to be used at every pixel that is read, as in convolutions before they enlarge.
        """
        frames, _, height, width = clip_shape
        return product_seconds(2.0 * self._weights * frames * height * width)

    def _run(self, frame: Tensor) -> Tensor:
        if not self._session.worker.alive:  # another file took the process with it
            self._session = _session(self._content, self._shown)
        try:
            content, shape = self._session.run(frame.cpu().contiguous().numpy().tobytes(), tuple(frame.shape))
        except (RuntimeError, EndedError) as error:
            raise AuditError(f"{self.name} fails on {tuple(frame.shape)}: {_line(error)}") from error
        return torch.from_numpy(np.frombuffer(content, np.float32).reshape(shape).copy())


def _content(path: Path, shown: str) -> tuple[bytes, int]:
    """Return the model as one message, and how many numbers its weights hold.

    onnx itself refuses external data outside the file's folder.
    """
    regular_file(path, shown)
    import onnx

    try:
        loaded: Any = onnx.load(path)
        if not loaded.ir_version or not loaded.graph.node:
            raise ValueError("no graph")
        return loaded.SerializeToString(), sum(math.prod(w.dims) for w in loaded.graph.initializer)
    except Exception as error:  # a parser, a checker and the system have errors of many kinds
        raise UsageError(f"--sr {shown} is not an ONNX file that can be read", "export the network again") from error


def _session(content: bytes, shown: str) -> Session:
    try:
        return Session(content, torch.get_num_threads(), cuda=torch.cuda.is_available())
    except (RuntimeError, EndedError) as error:
        raise UsageError(f"ONNX Runtime refuses --sr {shown}: {_line(error)}", "export the network again") from error


def _scale(made: Tensor, channels: int, height: int, width: int, shown: str) -> int:
    larger = made.ndim == _AXES and made.shape[:2] == (1, channels)
    scale = made.shape[-2] // height if larger else 0
    if scale < 2 or tuple(made.shape[-2:]) != (scale * height, scale * width):
        raise UsageError(
            f"the network of --sr {shown} maps (1, {channels}, {height}, {width}) to {tuple(made.shape)}",
            "give one that enlarges both sides by the same whole number",
        )
    if not -0.5 <= float(made.nan_to_num(9.9).mean()) <= 1.5:
        raise UsageError(
            f"the network of --sr {shown} does not keep grey of 0.5 within [0, 1]", "export it for values in [0, 1]"
        )
    return int(scale)


def _line(error: Exception) -> str:
    return printable((str(error).splitlines() or [type(error).__name__])[0], _ONE_LINE)
