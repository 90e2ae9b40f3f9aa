"""Whether what is planned fits into memory: counted from the model, against what this machine has left."""

import os
from pathlib import Path

import torch

from auditor.attack import Attack
from auditor.pipeline.context import Context
from auditor.records import Skipped, View

# Of the memory that is free: other programs and what a step holds for a moment take the rest.
_SHARE = 0.75
# An audit on a CPU never plans with more: it shares the machine, and what keeps more takes minutes a step there. Beside
# it stand the program, the weights and every clip's update: up to 3 GB for nets of published size, 12 GB in all.
_MOST_ON_CPU = 8 * 2**30
# On a CPU an analysis may take this many times the memory of a training step; below the second number nobody minds.
_MOST_STEPS, _NEVER_MUCH = 4, 3 * 2**30
_GIB = 2**30
_REMEDY = "use a machine with more memory, or a smaller --input-shape where the model reads one"


def available_bytes(device: torch.device) -> int:
    """Return the memory that an audit may plan with: of the GPU, or of what the system and its control groups leave."""
    if device.type == "cuda":
        # What PyTorch keeps of freed tensors is not free for others, but for us.
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(_SHARE * (torch.cuda.mem_get_info(device)[0] + kept))
    return min(_MOST_ON_CPU, int(_SHARE * min([_free(), *_left_in_groups(Path("/sys/fs/cgroup"))])))


def too_large_to_match(context: Context, limit: int) -> str | None:
    """Say why steps of gradient matching do not fit into `limit` bytes, or None where they do."""
    step = context.target.step
    needed = 0 if step is None else step.matching_bytes(_clips(context))
    return None if needed <= limit else f"a step of gradient matching {_held(needed, limit)}"


def too_large_to_search(attack: Attack, context: Context, view: View, limit: int) -> str | None:
    """Say why an attack's steps do not fit into `limit` bytes, or take far more than training does; None where not."""
    step, clips = context.target.step, _clips(context)
    if step is None or step.smoothed_bytes(clips) <= min(limit, _NEVER_MUCH):
        return None
    why = _too_much(attack.memory(view, step, clips), step.gradient_bytes(clips), limit, context.device)
    return None if why is None else f"a step of {attack.name} {why}"


def too_large_to_expose(context: Context, limit: int) -> Skipped | None:
    """Say why products with the Jacobian do not fit into `limit` bytes, or take far more than training does."""
    step, clips = context.target.step, _clips(context)
    why = (
        None
        if step is None
        else _too_much(step.jacobian_bytes(clips), step.gradient_bytes(clips), limit, context.device)
    )
    if why is None:
        return None
    return Skipped(
        stage="expose",
        what="mode exposure",
        because="out-of-memory",
        reason=f"products with the gradient's Jacobian {why}; determinacy counts what each layer determines",
        remedy=_REMEDY,
    )


def not_held(what: str, why: str, stage: str = "invert") -> Skipped:
    """Return the record of a search that memory does not hold."""
    return Skipped(stage=stage, what=what, because="out-of-memory", reason=why, remedy=_REMEDY)


def ran_out(what: str, error: BaseException, stage: str = "invert") -> Skipped:
    """Return the record of what was begun and found no memory (see `is_out_of_memory`)."""
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return not_held(what, f"it ran out of memory ({first})", stage)


def _too_much(needed: int, training: int, limit: int, device: torch.device) -> str | None:
    if needed > limit:
        return _held(needed, limit)
    if device.type == "cuda" or needed <= max(_NEVER_MUCH, _MOST_STEPS * training):
        return None
    return f"would take about {needed / _GIB:.1f} GiB, {needed / training:.0f} times what training takes"


def _held(needed: int, limit: int) -> str:
    return f"would take about {needed / _GIB:.1f} GiB, and {limit / _GIB:.1f} GiB can be used"


def _clips(context: Context) -> int:
    """Return how many clips one differentiable simulation holds: local steps stay in the graph."""
    return context.protocol.batch * max(1, context.protocol.steps)


def _free() -> int:
    """Return the bytes that the system can give without swapping; all there is where that is not told."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else _MOST_ON_CPU


def _left_in_groups(root: Path) -> list[int]:
    """Return the bytes that control groups of version 2 and 1 leave, where they set a limit."""
    left = []
    for limit, used in (
        (root / "memory.max", root / "memory.current"),
        (root / "memory" / "memory.limit_in_bytes", root / "memory" / "memory.usage_in_bytes"),
    ):
        try:
            left.append(max(0, int(limit.read_text()) - int(used.read_text())))
        except (OSError, ValueError):  # "max" is no number, and means no limit
            continue
    return left
