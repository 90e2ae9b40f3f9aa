"""Penalties that know video: steady motion, colour that changes together, a background that stays."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from auditor.records import Clips, Knowledge

# Singular values are taken through sqrt(s^2 + this): their derivative is unbounded where two of them meet.
_SMOOTH = 1e-6


@dataclass(frozen=True)
class SteadyMotion:
    """Mean absolute second difference over time: what moves goes on moving, what brightens goes on brightening."""

    weight: float

    def __call__(self, clips: Clips, knowledge: Knowledge) -> Float[Tensor, ""]:
        """Return weight * mean |x_t+1 - 2 x_t + x_t-1|; fewer than three frames add nothing."""
        if clips.shape[1] < 3:
            return clips.sum() * 0.0
        return self.weight * clips.diff(n=2, dim=1).abs().mean()


@dataclass(frozen=True)
class OpponentColour:
    """Spatial variation of colour differences: chroma changes less over an image than brightness does.

    The planes are R - G and (R + G) / 2 - B, the opponent axes of Buchsbaum & Gottschalk 1983.
    """

    weight: float

    def __call__(self, clips: Clips, knowledge: Knowledge) -> Float[Tensor, ""]:
        """Return weight * (mean |c_h+1 - c_h| + mean |c_w+1 - c_w|) over both planes; other than RGB adds nothing."""
        if clips.shape[2] != 3:
            return clips.sum() * 0.0
        red, green, blue = clips.unbind(dim=2)
        planes = torch.stack([red - green, (red + green) / 2 - blue], dim=2)
        down = planes.diff(dim=3).abs().mean() if clips.shape[3] > 1 else planes.sum() * 0.0
        across = planes.diff(dim=4).abs().mean() if clips.shape[4] > 1 else planes.sum() * 0.0
        return self.weight * (down + across)


@dataclass(frozen=True)
class StaticBackground:
    """Nuclear norm of the (frame, pixel) matrix less its mean frame: a background of low rank, foreground at a price.

    After the low-rank part of robust principal component analysis (Candes et al. 2011, arXiv 0912.3599); a small moving
    thing adds a small singular value. Divided by sqrt(frames * values), so that it is a deviation of pixels in [0, 1]
    whatever the size.
    """

    weight: float

    def __call__(self, clips: Clips, knowledge: Knowledge) -> Float[Tensor, ""]:
        """Return weight * mean over clips of ||X - mean_t X||_* / sqrt(frames * values); one frame adds nothing."""
        frames = clips.shape[1]
        if frames < 2:
            return clips.sum() * 0.0
        rows = clips.flatten(2)
        rows = rows - rows.mean(dim=1, keepdim=True)
        # Frames are few: singular values from the Gram matrix, whose eigenvalues are differentiable without vectors.
        gram = rows @ rows.transpose(1, 2) / (frames * rows.shape[2])
        floor = _SMOOTH * torch.eye(frames, dtype=gram.dtype, device=gram.device)
        return self.weight * torch.linalg.eigvalsh(gram + floor).clamp(min=_SMOOTH).sqrt().sum(dim=1).mean()


@dataclass(frozen=True)
class KnownBackground:
    """Mean of sqrt(d^2 + e^2) - e, d a pixel's distance to the background that reference frames show.

    The background is the per-pixel median of the frames (of one frame: the frame), held: a camera that stands still
    and few pixels that move, but freely (Charbonnier et al. 1994).

    Attributes
    ----------
    count
        How many of the newest reference frames the median is taken of.
    """

    weight: float
    count: int = 1
    softness: float = 0.01

    def __call__(self, clips: Clips, knowledge: Knowledge) -> Float[Tensor, ""]:
        """Return the penalty; without a reference nothing is added."""
        if knowledge.reference is None or not len(knowledge.reference):
            return clips.sum() * 0.0
        off = clips - knowledge.reference[-self.count :].contiguous().median(dim=0).values.to(clips)
        return self.weight * ((off.square() + self.softness**2).sqrt() - self.softness).mean()


@dataclass(frozen=True)
class SparseForeground:
    """Mean of sqrt(d^2 + e^2) - e, d a pixel's distance to its own temporal median: few pixels move, but freely.

    The sparse part of the same decomposition, with the median frame as background (Charbonnier et al. 1994).
    """

    weight: float
    softness: float = 0.01

    def __call__(self, clips: Clips, knowledge: Knowledge) -> Float[Tensor, ""]:
        """Return the penalty; a single frame adds nothing."""
        if clips.shape[1] < 2:
            return clips.sum() * 0.0
        # torch's median is wrong for clips that share memory between frames.
        off = clips - clips.contiguous().median(dim=1, keepdim=True).values
        return self.weight * ((off.square() + self.softness**2).sqrt() - self.softness).mean()
