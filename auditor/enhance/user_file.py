"""The enhancer behind a file that the user names."""

from pathlib import Path

from auditor.enhance.interface import Enhancer
from auditor.enhance.onnx_net import OnnxNet
from auditor.enhance.weight_file import SUFFIXES, WeightFile
from auditor.errors import UsageError
from auditor.text import printable


def enhancer_from(path: Path) -> Enhancer:
    """Return the enhancer behind weights (.pth, .pt, .ckpt, .safetensors) or an ONNX file.

    Raises
    ------
    UsageError
        Another suffix, or the file is not what its name says.
    """
    suffix = path.suffix.lower()
    if suffix == ".onnx":
        return OnnxNet(path)
    if suffix in SUFFIXES:
        return WeightFile(path)
    raise UsageError(
        f"--sr {printable(path.name)} has no known ending", f"give one of {', '.join((*SUFFIXES, '.onnx'))}"
    )
