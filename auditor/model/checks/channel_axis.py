"""Which axis of an input holds the channels, told by the first convolution that reads it."""

import torch
from torch import nn

from auditor.errors import UsageError
from auditor.model.clip_input import AXES, deduced_layout
from auditor.model.forward_pass import Reading, first_reading
from auditor.model.video import VideoModel
from auditor.records import InputSpec, Layout

AT_MOST = 4  # operations that read parameters: a norm of pixels, a scale and a shift, a convolution


def layout_of(network: nn.Module, shape: tuple[int, ...], batch: int = 1) -> Layout:
    """Return the axis order of one clip of `shape` (without batch) that a network reads in its own order.

    An axis of 3 or 1 holds colour; clips of flow, depth or more bands have other numbers of channels, which the first
    convolution tells.

    Raises
    ------
    UsageError
        Neither is certain, or they contradict each other.
    """
    told = _told_by_convolution(network, shape, batch) if len(shape) in (3, 4) else None
    try:
        deduced = deduced_layout(shape)
    except UsageError:
        # Frames stacked in the channels are a question of their own.
        if told is None or (len(shape) == 3 and shape[AXES[told].index("C")] % 3 == 0):
            raise
        return told
    if told is None or AXES[told].index("C") == AXES[deduced].index("C"):
        return deduced
    raise UsageError(
        f"the axis order of input shape {shape} is not certain: the first convolution reads "
        f"{shape[AXES[told].index('C')]} channels, and 3 or 1 may be colours",
        f"give --layout {told}, or --layout {deduced} if frames are read as channels",
    )


def _told_by_convolution(network: nn.Module, shape: tuple[int, ...], batch: int) -> Layout | None:
    first = _first_convolution(network, shape, batch)
    if first is None or first.convolution is None:
        return None
    channels = first.input.shape[1] if first.input.dim() > len(first.convolution.kernel) + 1 else None
    fitting = [layout for layout, axes in AXES.items() if len(axes) == len(shape) and _fits(shape, axes, channels)]
    return fitting[0] if len(fitting) == 1 else None


def _first_convolution(network: nn.Module, shape: tuple[int, ...], batch: int) -> Reading | None:
    """Return the first reading that is a convolution, where nothing but norms comes before; it runs no further."""
    clip = shape if len(shape) == 4 else (1, *shape)
    spec = InputSpec(
        frames=clip[0], channels=clip[1], height=clip[2], width=clip[3], layout="NTCHW" if clip is shape else "NCHW"
    )
    model = VideoModel(network, spec)
    for place in range(AT_MOST):
        try:
            reading = first_reading(model, None, torch.zeros(batch, *clip), place)
        except Exception:  # noqa: BLE001 - a user's forward may raise anything; it is told where the clip is run
            return None
        if reading is None or reading.behind_weights or reading.convolution is not None:
            return reading if reading is not None and not reading.behind_weights else None
    return None


def _fits(shape: tuple[int, ...], axes: str, channels: int | None) -> bool:
    return shape[axes.index("C")] == channels
