"""A super-resolution network of the user's, from its weights alone: anything that spandrel recognises."""

import os
import stat
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from auditor.enhance.interface import Enhanced, measured
from auditor.errors import AuditError, UsageError
from auditor.records import Clip
from auditor.text import printable

SUFFIXES = (".pth", ".pt", ".ckpt", ".safetensors")
# The largest published network of this kind (HAT-L) has 160 MB; files beyond this are something else.
LARGEST_FILE = 2 * 2**30
_REMEDY = "give the weights of a super-resolution network that spandrel knows, e.g. Real-ESRGAN, SwinIR, HAT, SPAN"


class WeightFile:
    """Enlarges a clip frame by frame with a network whose architecture is recognised by the names of its weights.

    Nothing in the file is executed: pickles are read with `weights_only`. The network comes from spandrel
    (https://github.com/chaiNNer-org/spandrel); scale and channels are read from the weights.

    Raises
    ------
    UsageError
        The file cannot be read, holds something other than weights, or its network is unknown or does not enlarge.
    """

    def __init__(self, path: Path) -> None:
        shown = printable(path.name)
        found = _described(_weights(path, shown), shown)
        if found.scale < 2:
            raise UsageError(f"the network of {shown} does not enlarge (its scale is {found.scale})", _REMEDY)
        if (found.input_channels, found.output_channels) not in ((3, 3), (1, 1)):
            raise UsageError(
                f"the network of {shown} maps {found.input_channels} channels to {found.output_channels}",
                "give one for RGB or grey frames",
            )
        self._network = found.eval()
        self.name = f"{printable(found.architecture.name, 40)} ({shown})"
        self.scale = int(found.scale)

    def __call__(self, clip: Clip) -> Enhanced:
        """Return (frame, channel, scale * height, scale * width) in [0, 1]."""
        start = time.monotonic()
        network = self._network.to(clip.device)
        frames = between_channels(clip, network.input_channels)
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")  # remarks of the networks' own code on torch's interface
            try:
                parts = [network(frame) for frame in torch.split(frames, 1)]
            except Exception as error:  # a network of any architecture, on frames that it may not expect
                reason = printable((str(error).splitlines() or [type(error).__name__])[0])
                raise AuditError(f"{self.name} cannot enlarge {tuple(clip.shape[1:])}: {reason}") from error
        return finished(self, clip, torch.cat(parts), start)

    def seconds_estimate(self, clip_shape: tuple[int, ...]) -> float:
        """Return the work of a clip of (frame, channel, height, width) in reference seconds."""
        return measured(self, clip_shape)


def regular_file(path: Path, shown: str) -> None:
    """Raise UsageError unless the path leads to a plain file of believable size."""
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no path"
        raise UsageError(f"cannot read --sr {shown} ({reason})", "check the path") from error
    if not stat.S_ISREG(status.st_mode):
        raise UsageError(f"--sr {shown} is not a file", "give a file of weights or an ONNX file")
    if not status.st_size:
        raise UsageError(f"--sr {shown} is empty", "give a file of weights or an ONNX file")
    if status.st_size > LARGEST_FILE:
        raise UsageError(f"--sr {shown} has {status.st_size} bytes", f"give a file of at most {LARGEST_FILE >> 30} GiB")


def between_channels(clip: Clip, wanted: int) -> Clip:
    """Return frames in [0, 1] with the channels that a network reads: grey is repeated, colour averaged.

    Raises
    ------
    AuditError
        The clip has neither 1 nor 3 channels, or colour would be lost.
    """
    have = clip.shape[1]
    if have == wanted:
        return clip.detach().float().clamp(0, 1)
    if have == 1 and wanted == 3:
        return clip.detach().float().clamp(0, 1).expand(-1, 3, -1, -1)
    if have == 3 and wanted == 1:
        raise AuditError("the network enlarges grey frames and the clip has colour", "use a network for RGB")
    raise AuditError(f"networks enlarge 1 or 3 channels, not {have}", "use bicubic")


def finished(enhancer: Any, clip: Clip, enlarged: Tensor, start: float) -> Enhanced:
    """Check what a network returned, and give it the clip's channels.

    Raises
    ------
    AuditError
        Another size than promised, or values that are no numbers.
    """
    height, width = (enhancer.scale * n for n in clip.shape[-2:])
    if enlarged.shape[-2:] != (height, width) or not bool(enlarged.isfinite().all()):
        raise AuditError(f"{enhancer.name} did not return frames of {height}x{width} with finite values")
    enlarged = enlarged.float().clamp(0, 1)
    if clip.shape[1] == 1 and enlarged.shape[1] == 3:
        enlarged = enlarged.mean(1, keepdim=True)
    return Enhanced(
        method=enhancer.name, scale=enhancer.scale, clip=enlarged.to(clip.device), seconds=time.monotonic() - start
    )


def _weights(path: Path, shown: str) -> dict[str, Tensor]:
    regular_file(path, shown)
    try:
        if path.suffix.lower() == ".safetensors":
            from safetensors.torch import load_file

            loaded: Any = load_file(path)
        else:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip and safetensors have errors of a dozen kinds
        raise UsageError(
            f"--sr {shown} holds no weights that can be read without executing it",
            "save the network's state_dict with torch.save, or as .safetensors",
        ) from error
    if not isinstance(loaded, dict):
        raise UsageError(f"--sr {shown} holds a {type(loaded).__name__}, not weights", _REMEDY)
    return loaded


def _described(weights: dict[str, Tensor], shown: str) -> Any:
    try:
        import spandrel
    except (ImportError, RuntimeError, OSError) as error:
        raise AuditError(
            "--sr needs spandrel and a torchvision that matches torch",
            "reinstall both: pip install --force-reinstall torch torchvision spandrel",
        ) from error
    try:
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")
            found = spandrel.ModelLoader().load_from_state_dict(spandrel.canonicalize_state_dict(weights))
    except Exception as error:  # each architecture fails in its own way on weights that only look like its own
        raise UsageError(f"the network of --sr {shown} is not recognised by its weights", _REMEDY) from error
    if not isinstance(found, spandrel.ImageModelDescriptor):
        raise UsageError(f"the network of --sr {shown} does not take a frame alone", _REMEDY)
    return found
