"""A clip from equations by least squares over its cosine modes, with a prior that is fitted on the way."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from auditor.attack.spectrum import Spectrum, ring_means
from auditor.modes import CosineTransform
from auditor.records import Budget, Clips, Clock, Outcome, Trace
from auditor.solvers.gauss_newton import Linearised, gauss_newton

# Errors that the model of a level admits, relative to the values themselves, and products spent on it. Each level
# starts where the last one ended.
_LEVELS = tuple(0.5 * 0.68**k for k in range(24))
_FIRST, _GROWTH, _MOST = 15, 1.2, 120
_TOLERANCE = 1e-2
# Levels after which the prior is fitted to the clip.
_FITTED = (3, 6, 9)
# A level that left the equations this much worse fulfilled than the best one did is the last.
_WORSE = 4.0


class ClipEquations(Protocol):
    """What must hold of a clip."""

    def __call__(self, clips: Clips, error: float) -> Sequence[Tensor]:
        """Return residuals in units of the error that is admitted, differentiable in the clips."""
        ...

    def misfit(self, clips: Clips) -> float:
        """Return how far the equations are from being fulfilled; 0 at the truth."""
        ...


@dataclass(frozen=True)
class Searched:
    """The clips that fulfil the equations best, how well, and what it took."""

    clips: Clips
    misfit: float
    outcome: Outcome
    trace: tuple[Trace, ...]
    products: int


def search_modes(
    equations: ClipEquations,
    shape: tuple[int, int, int, int, int],
    like: Tensor,
    budget: Budget,
    clock: Clock,
    seed: int,
    spectrum: Spectrum,
) -> Searched | None:
    """Minimise residuals and a normal prior over modes by Gauss-Newton, level by level of shrinking error.

    `shape` is that of the clips, whose number comes first; they share one prior.
    None where no clip with a finite misfit turned up.
    """
    one = shape[1:]
    transform = CosineTransform.of(one, like)
    deviation = spectrum.variance(one).sqrt().to(like)
    z = like.new_zeros(shape)
    best = 0.5 + z
    least, products, steps = math.inf, float(_FIRST), 0
    trace: list[Trace] = []
    outcome = Outcome.CONVERGED
    for level, error in enumerate(_LEVELS):

        def off(variable: Tensor, error: float = error, scale: Tensor = deviation) -> Sequence[Tensor]:
            return equations(0.5 + transform.clips(variable * scale), error)

        most = min(int(products), _MOST, max(budget.steps - steps, 1))
        step = gauss_newton(off, z, most, _TOLERANCE, clock, ring_means)
        z, steps = step.variable, steps + step.products
        products *= _GROWTH
        clips = (0.5 + transform.clips(z * deviation)).clamp(0.0, 1.0).detach()
        now = equations.misfit(clips)
        trace.append(Trace(step=steps, seconds=clock.used, objective=now))
        budget.progress((level + 1) / len(_LEVELS))
        if now < least:
            best, least = clips, now
        if not bool(torch.isfinite(z).all()) or now > _WORSE * least:
            break
        if clock.left < 0.0 or steps >= budget.steps:
            outcome = Outcome.OUT_OF_BUDGET
            break
        if level in _FITTED:
            missed = Linearised(off, z, ring_means).posterior_error(most, _TOLERANCE, clock, seed)
            spectrum = spectrum.fitted(((z.square() + missed.square()) * deviation.square()).mean(0))
            fresh = spectrum.variance(one).sqrt().to(like)
            z, deviation = z * deviation / fresh, fresh
    return Searched(best, least, outcome, tuple(trace), steps) if math.isfinite(least) else None
