"""Which axis of what a network returns for one clip holds the classes, and whether clips come first."""

from collections.abc import Sequence

import torch
from torch import Tensor

from auditor.errors import NotAuditable, UsageError
from auditor.model.class_axis import by_extent, class_axis, last_layers
from auditor.model.clip_input import AXES
from auditor.model.forward_pass import Reading, observe
from auditor.model.output import select
from auditor.model.video import VideoModel


def settled_axis(model: VideoModel, clip: Tensor, output: Tensor, wanted: int | None) -> int | None:
    """Return the axis that holds the classes, by the layers or the number of classes that the user gave.

    None where it is the usual one, and one past the last where each step of time has one value.

    Raises
    ------
    NotAuditable
        Classes stand where clips belong, or there is a single number.
    UsageError
        Nothing tells which axis it is.
    """
    if not output.dim():
        raise NotAuditable(
            "the model returns a single number for a clip, as a loss is, not logits",
            "return the logits (clip, class) from forward; the audit computes the loss",
        )
    rows = output.shape[0]
    travelling = len(AXES[model.spec.layout]) == 3 and rows == model.spec.frames  # frames in the batch
    misplaced = rows > 1 and not travelling
    stepwise = rows == 1 and wanted is None and output.dim() == 2 and 1 < output.shape[1] <= model.spec.frames
    if output.dim() < 3 and not misplaced and not stepwise:
        return None
    observation = observe(model, clip, model.outputs)
    logits = select(observation.output, model.wanted_output)
    if misplaced:
        _check_clips_first(logits, observation.readings)
    if output.dim() < 3:
        return 2 if stepwise and _one_value_a_step(logits, observation.readings) else None
    found = class_axis(logits, observation.readings)
    found = by_extent(output, wanted) if found is None else found
    wide = [extent for extent in output.shape[1:] if extent > 1]
    if found is None and wanted is None and len(wide) == 2:
        raise UsageError(
            f"no layer tells which axis of the output {tuple(output.shape)} for one clip holds the classes",
            f"give --classes {wide[1]}, or --classes {wide[0]}",
        )
    return found


def axis_notes(model: VideoModel, shape: tuple[int, ...]) -> list[str]:
    """Say where the classes of an output were found, unless they stand last."""
    axis = model.class_axis
    if axis is None or axis == len(shape) - 1:
        return []
    if axis == len(shape):
        return [
            f"The output of shape {shape} for one clip holds one value for each of {shape[-1]} steps of time, as the "
            "last layer tells, not one for each class. Give --classes if they are classes."
        ]
    return [
        f"The output of shape {shape} for one clip holds its classes along axis {axis}, as the last layer tells, and "
        "is read so."
    ]


def _check_clips_first(logits: Tensor, readings: Sequence[Reading]) -> None:
    """Refuse an output whose first axis is that of the last layer's channels."""
    channels = next((values.shape[axis] for values, axis in last_layers(readings)), 1)
    if channels != logits.shape[0] or (logits.dim() > 1 and logits.shape[-1] == channels):
        return
    what = "no axis of clips" if logits.dim() == 1 else "classes come before clips"
    raise NotAuditable(
        f"the model returns shape {tuple(logits.shape)} for one clip: {what}", "return (clip, class) from forward"
    )


def _one_value_a_step(logits: Tensor, readings: Sequence[Reading]) -> bool:
    """Tell whether every entry of a row is what a layer of one channel made of another step."""
    values, axis = next(iter(last_layers(readings)), (None, 0))
    if values is None or values.shape[axis] != 1 or values.numel() != logits.numel() or not values.requires_grad:
        return False
    if not logits.requires_grad:
        return False
    (slope,) = torch.autograd.grad(logits[0, 0], values, allow_unused=True, retain_graph=True)
    return slope is not None and int((slope != 0).sum()) == 1
