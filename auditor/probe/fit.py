"""Fit the frames of a video to what a model reads: a window in time, a crop, a resize, a channel count."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from auditor.errors import UsageError
from auditor.records import Clip, InputSpec

# ITU-R BT.601-7, section 2.5.1: luma from gamma-corrected R, G, B.
BT601 = (0.299, 0.587, 0.114)
# Grey and colour can be made of each other; flow, depth and heat maps of neither.
PICTURES = (1, 3)


def own_window(available: int, wanted: int) -> tuple[int, int]:
    """Return (start, length) of the central window of a clip, in frames of the clip.

    Every second frame is taken where there are enough, else every frame, else the whole clip.
    """
    for stride in (2, 1):
        length = (wanted - 1) * stride + 1
        if length <= available:
            return (available - length) // 2, length
    return 0, available


def window(frames: Clip, start: int, length: int, wanted: int) -> Float[Tensor, "{wanted} channel height width"]:
    """Return `wanted` frames evenly spread over `frames[start : start + length]`, linear between two frames."""
    position = torch.linspace(start, start + length - 1, wanted, dtype=torch.float64)
    below = position.floor().long()
    above = position.ceil().long()
    if torch.equal(below, above):
        return frames[below]
    weight = (position - below).to(frames.dtype)[:, None, None, None]
    return torch.lerp(frames[below], frames[above], weight)


def crop_to_aspect(frames: Clip, height: int, width: int) -> Float[Tensor, "frame channel rows columns"]:
    """Return the largest central crop whose sides relate as `height` to `width`, rounded to whole pixels."""
    h, w = frames.shape[-2:]
    scale = min(h / height, w / width)
    kept_h, kept_w = max(1, min(h, round(height * scale))), max(1, min(w, round(width * scale)))
    top, left = (h - kept_h) // 2, (w - kept_w) // 2
    return frames[..., top : top + kept_h, left : left + kept_w]


def resize(
    frames: Float[Tensor, "frame channel rows columns"], height: int, width: int
) -> Float[Tensor, "frame channel {height} {width}"]:
    """Resample in space by an antialiased bicubic filter, clamped to [0, 1]."""
    if frames.shape[-2:] == (height, width):
        return frames.clone()
    resized = functional.interpolate(frames, (height, width), mode="bicubic", align_corners=False, antialias=True)
    return resized.clamp_(0, 1)


def with_channels(frames: Clip, channels: int) -> Float[Tensor, "frame {channels} height width"]:
    """Return `frames` with 1 channel (BT.601 luma) or 3 (grey repeated).

    Raises
    ------
    UsageError
        The model reads another number of channels than these frames can be turned into.
    """
    have = frames.shape[1]
    if have == channels:
        return frames
    if (have, channels) == (3, 1):
        weights: Tensor = torch.tensor(BT601, dtype=frames.dtype, device=frames.device)
        return torch.einsum("tchw,c->thw", frames, weights)[:, None].clamp(0, 1)
    if (have, channels) == (1, 3):
        return frames.expand(-1, 3, -1, -1).contiguous()
    raise UsageError(
        f"the model reads {channels} channels and the clip has {have}",
        f"correct --layout if its axes were misread, or give clips of your own as .npz with {channels} channels",
    )


def fit(
    frames: Float[Tensor, "available colour rows columns"], spec: InputSpec, start: int, length: int
) -> tuple[Clip, Float[Tensor, "frame channel kept_rows kept_columns"]]:
    """Return (clip at the model's size, the same frames at their own size), both in [0, 1]."""
    native = window(with_channels(frames, spec.channels), start, length, spec.frames)
    native = crop_to_aspect(native, spec.height, spec.width).contiguous()
    return resize(native, spec.height, spec.width), native
