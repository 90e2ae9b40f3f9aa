"""How much of a file or forward pass is not accounted for, counted once a model is described."""

from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from auditor.model.checks.slopes import Unseen
from auditor.model.checks.unread_parameters import UnreadParameters
from auditor.model.forward_constants import ForwardConstant
from auditor.model.pixel_range import pixel_factors, told_of
from auditor.model.video import BATCH_NORMS, VideoModel
from auditor.records import Unaccounted


def accounted(
    model: VideoModel, file: Unaccounted, hidden: Unseen, *, questions: Sequence[str], axis_told: bool
) -> Unaccounted:
    """Return what is not accounted for.

    Parameters
    ----------
    file
        What was counted in a file or a module, and assumed to read it.
    questions
        What is to be asked about an input that hardly holds pictures.
    axis_told
        Whether the axis of the classes was told by the network's layers.
    """
    assumed = [*file.assumed, *(["that the input holds pictures"] if questions else [])]
    if axis_told:
        assumed.append(f"classes along axis {model.class_axis}")
    factors = pixel_factors(model)
    return replace(
        file,
        without_gradient=hidden.without_gradient,
        pixels="" if factors is None else told_of(factors),
        assumed=tuple(assumed),
    )


def with_constants(
    model: VideoModel, file: Unaccounted, constants: Sequence[ForwardConstant], idle: UnreadParameters
) -> Unaccounted:
    """Return what was counted in a file; of a module, what it holds and what its forward pass reads besides.

    Parameters that nothing reads are accounted for by nothing either.
    """
    if file.of_numbers:
        return replace(file, numbers=file.numbers + idle.doubtful)
    own = _of_module(model.network)
    return replace(
        file,
        numbers=own.numbers + idle.doubtful + sum(constant.numbers for constant in constants),
        fixed=own.fixed + sum(constant.numbers for constant in constants if constant.fixed),
        of_numbers=own.of_numbers + sum(constant.numbers for constant in constants),
    )


def _of_module(network: nn.Module) -> Unaccounted:
    """Count a module's tensors: what its author registered as buffers is known not to be trained."""
    parameters = sum(value.numel() for value in network.parameters() if value.is_floating_point())
    statistics = {
        id(value)
        for module in network.modules()
        if isinstance(module, BATCH_NORMS)
        for value in module.buffers(recurse=False)
    }
    buffers = [value for value in network.buffers() if value.is_floating_point()]
    rest = sum(value.numel() for value in buffers if id(value) not in statistics)
    total = parameters + sum(value.numel() for value in buffers)
    return Unaccounted(numbers=rest, fixed=rest, of_numbers=total)
