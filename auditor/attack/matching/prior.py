"""What clips look like before any update is seen: penalties in the attack's loss. Axes are named, never counted."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from auditor.attack.start import reference_copy
from auditor.records import Clips, Knowledge


@runtime_checkable
class Prior(Protocol):
    """A differentiable penalty on a batch of clips."""

    def __call__(self, clips: Clips, knowledge: Knowledge) -> Float[Tensor, ""]:
        """Return the penalty."""
        ...


@dataclass(frozen=True)
class SpatialVariation:
    """Mean absolute difference of neighbouring pixels, across and down (anisotropic TV, Rudin et al. 1992)."""

    weight: float

    def __call__(self, clips: Clips, knowledge: Knowledge) -> Float[Tensor, ""]:
        """Return weight * (mean |x_h+1 - x_h| + mean |x_w+1 - x_w|); an axis of length one adds nothing."""
        return self.weight * (_variation(clips, axis=3) + _variation(clips, axis=4))


@dataclass(frozen=True)
class TemporalVariation:
    """Mean absolute difference of successive frames: cameras mostly stand still."""

    weight: float

    def __call__(self, clips: Clips, knowledge: Knowledge) -> Float[Tensor, ""]:
        """Return weight * mean |x_t+1 - x_t|; a single frame adds nothing."""
        return self.weight * _variation(clips, axis=1)


@dataclass(frozen=True)
class NearReference:
    """Mean absolute difference to the reference copy: much of a scene stays as it was seen (R1, Rk).

    Attributes
    ----------
    count
        How many of the newest frames the copy is made of, as in `ReferenceFrame`.
    """

    weight: float
    count: int = 1

    def __call__(self, clips: Clips, knowledge: Knowledge) -> Float[Tensor, ""]:
        """Return weight * mean |x_t - r_t|; without a reference nothing is added."""
        if knowledge.reference is None:
            return clips.sum() * 0.0
        return self.weight * (clips - reference_copy(knowledge, self.count).to(clips)).abs().mean()


def _variation(clips: Clips, axis: int) -> Float[Tensor, ""]:
    if clips.shape[axis] < 2:
        return clips.sum() * 0.0
    return clips.diff(dim=axis).abs().mean()
