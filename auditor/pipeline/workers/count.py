"""How many copies of a process share the work of an audit."""

import os
from contextlib import suppress
from pathlib import Path

import torch

from auditor.errors import UsageError
from auditor.pipeline.deep.memory import available_bytes
from auditor.pipeline.threads import is_small
from auditor.records import Target

# Beyond that more gain little: a stage of a scan has a dozen parts, and the last of them ends it.
_MOST = 8
# Microseconds of a processor in so many, or "max"; of the control group that a container is.
_QUOTA = Path("/sys/fs/cgroup/cpu.max")
# What a copy holds beside a step of matching: its own records, and pages of the parent that it writes to.
_BESIDE = 2**28


def processes_for(target: Target) -> int:
    """Return how many processes should attack a network side by side where nobody has told; 0 for none.

    Networks that gain from threads, or whose steps memory does not hold many times, have the process to themselves.
    """
    if not is_small(target):
        return 0
    each = _BESIDE + (0 if target.step is None else target.step.matching_bytes(1))
    return max(1, min(_cores(), _MOST, available_bytes(torch.device("cpu")) // each))


def _cores() -> int:
    """Return the cores that this process may use: a container may have fewer than its machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):
        quota, period = map(int, _QUOTA.read_text().split())
        return max(1, min(cores, quota // period))
    return cores


def shared_by_copies(device: str) -> bool:
    """Tell whether copies of a process can use a device at the same time."""
    return device == "cpu" or (device == "auto" and not torch.cuda.is_available())


def check_device(device: str) -> None:
    """Raise UsageError where a device cannot be shared by copies of a process."""
    if not shared_by_copies(device):
        raise UsageError(
            "--jobs needs a CPU: copies of a process cannot share an accelerator",
            "add --device cpu, or leave --jobs out",
        )
