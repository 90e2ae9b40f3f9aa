"""The machine and the versions that a result was computed with."""

import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from auditor.attack import work_a_second
from auditor.records.arithmetic import arithmetic_block

_PACKAGES = ("torch", "torchvision", "onnx", "onnxruntime-gpu", "onnxruntime", "numpy", "spandrel", "weasyprint")


def environment_block(device: torch.device, pace: float | None = None) -> Mapping[str, Any]:
    """Return the machine, the device and installed versions.

    `pace` is reference seconds a step, where it was measured; on a GPU it decides what is planned for a second there.
    """
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": str(device) if device.type != "cuda" else torch.cuda.get_device_name(device),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count() or 0,
        **arithmetic_block(device),
    }
    if pace is not None:
        found["seconds_per_step"] = round(pace, 5)
        if device.type != "cpu":
            found["work_a_second"] = round(work_a_second(device, pace), 2)
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
