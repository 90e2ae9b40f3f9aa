"""What to say of a file whose outputs differ from ONNX Runtime's, or that mixes the clips of a batch."""

from typing import NamedTuple

import torch
from torch import Tensor

from auditor.errors import NotAuditable
from auditor.model.onnx.interpreter import OnnxModule
from auditor.model.onnx.support import WAYS_FORWARD
from auditor.model.onnx.tracing import NodeError

COLOURS = 3


class Tried(NamedTuple):
    """How far outputs were off: for a clip by itself, for two in one batch; and the rows that these two gave."""

    alone: float
    joint: float
    rows: int


def answers_to(module: OnnxModule, single: Tensor, fixed: int) -> int | None:
    """Return how often a file answers for the batch that it fixes, where that is less than once for each entry."""
    module.traced_batch, module.clip_by_clip = fixed, False
    module.forget()
    try:
        with torch.no_grad():
            rows = module(single.expand(fixed, *single.shape[1:])).shape[0]
    except (NodeError, RuntimeError):
        return None
    return rows if rows < fixed and fixed % rows == 0 else None


def disagreement(made: Tried, tolerance: float, single: Tensor, fixed: int | None, answers: int | None) -> NotAuditable:
    """Return the error for outputs that differ, with the number that was too large.

    `answers` is what `answers_to` found.
    """
    if made.alone > tolerance and answers is None:
        return NotAuditable(
            f"the imported graph differs from ONNX Runtime by {made.alone:.1e} of the largest logit "
            f"(at most {tolerance:.0e})",
            WAYS_FORWARD,
        )
    if answers is not None and fixed is not None:
        shape = ",".join(str(extent) for extent in (fixed, *single.shape[1:]))
        what, remedy = "clips", "export a model that answers for one clip, with a dynamic batch"
        if single.dim() == 4:
            what = "frames"
        if single.dim() == 4 and answers == 1:
            remedy = f"if they are the {fixed} frames of one clip, give --input-shape {shape}"
            if fixed == COLOURS:
                remedy += "; if they are colours, the file has no axis of clips: export it with one"
        often = "once for all of them" if answers == 1 else f"{answers} times, once for {fixed // answers} of them"
        return NotAuditable(f"the file fixes {fixed} {what} in its batch and answers {often}", remedy)
    rows = 2 * single.shape[0]
    wrong = (
        f"{made.rows} rows for a batch of {rows}"
        if made.joint == float("inf")
        else f"logits that differ by {made.joint:.1e} of the largest (at most {tolerance:.0e}) from those of each alone"
    )
    return NotAuditable(
        f"two clips in one batch give {wrong}: the model mixes the clips of a batch, or holds its size",
        "export a model that treats each clip by itself, with a dynamic batch",
    )
