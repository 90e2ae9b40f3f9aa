"""A clip from equations by least squares over its cosine modes, with a prior that is fitted on the way."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from auditor.prior.modes import CosineTransform
from auditor.prior.spectrum import Spectrum, ring_means
from auditor.records import Budget, Clips, Clock, Outcome, Trace
from auditor.solvers.gauss_newton import Linearised, Residuals, gauss_newton

# Errors that the model of a level admits, relative to the values. Each level starts where the last one ended.
_LARGEST, _LEAST = 0.5, 7e-5
# Products spent on a level: of the first one, the power of the error at which they grow, and at most.
_FIRST, _GROWTH, _MOST = 15, math.log(1.2) / -math.log(0.68), 120
_TOLERANCE = 1e-2
# A level that left the equations this much worse fulfilled than the best one did is the last.
_WORSE = 4.0
# Levels in a row that leave the misfit above this share of the least one: then nothing more comes.
_SETTLED, _LEVELS_SETTLED = 0.9, 6
# Equations that miss no more than this, squared, are fulfilled: at local minima more than 1e-3 was left.
_FULFILLED = 1e-5


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


@dataclass(frozen=True)
class Pace:
    """How fast the admitted error shrinks from level to level.

    Attributes
    ----------
    fast, slow
        The smallest and the largest share that a level leaves of it.
    ahead
        Between these, the next error in units of what the equations miss (root mean square).
    levels
        How many there are, at most.
    """

    fast: float
    slow: float
    ahead: float = 0.0
    levels: int = 64

    def next(self, error: float, misfit: float) -> float:
        """Return the next level's error, from this one's and the mean squared misfit that it left."""
        return min(max(self.ahead * math.sqrt(misfit), self.fast * error), self.slow * error)


# From the input of layer3 of r3d_18 at 8x32x32 the first led to 32.6 dB and rising where shrinking by 0.68 at once came
# to stand at 22.4 dB; behind the max-pool of ResNet-18 over frames it stands at 26, the second at 29 dB (0.68: 24).
PACES = (Pace(fast=0.68, slow=0.9, ahead=1.6), Pace(fast=0.92, slow=0.92))


@dataclass(frozen=True)
class ModeSearch:
    """How the search goes.

    Attributes
    ----------
    paces
        Taken in turn, from the start, until the equations are fulfilled.
    fitted
        The prior is fitted to the clip after the first level whose error is below each of these.
    scaled
        Whether steps are scaled by the diagonal of the equations, pooled over rings of frequency.
    """

    paces: tuple[Pace, ...] = PACES
    fitted: tuple[float, ...] = (0.16, 0.05, 0.016)
    scaled: bool = True


def search_modes(
    equations: ClipEquations,
    centre: Clips,
    spectrum: Spectrum,
    budget: Budget,
    clock: Clock,
    seed: int,
    how: ModeSearch | None = None,
) -> Searched | None:
    """Minimise residuals and a normal prior over modes by Gauss-Newton, level by level of shrinking error.

    `centre` (clip, frame, channel, height, width) and `spectrum` are the prior's mean and its variance about it, which
    several clips share. None where no clip with a finite misfit turned up.
    """
    how = how or ModeSearch()
    best: _AtOnePace | None = None
    trace: list[Trace] = []
    steps, outcome = 0, Outcome.CONVERGED
    for number, pace in enumerate(how.paces):
        search = _AtOnePace(equations, centre, spectrum, budget, clock, seed, how, steps)
        outcome = search.run(pace, number)
        steps, trace = search.steps, [*trace, *search.trace]
        if best is None or search.least < best.least:
            best = search
        if outcome is Outcome.OUT_OF_BUDGET or best.least < _FULFILLED:
            break
    if best is None or not math.isfinite(best.least):
        return None
    return Searched(best.best, best.least, outcome, tuple(trace), steps)


class _AtOnePace:
    """One way from the largest error down."""

    def __init__(
        self,
        equations: ClipEquations,
        centre: Clips,
        spectrum: Spectrum,
        budget: Budget,
        clock: Clock,
        seed: int,
        how: ModeSearch,
        steps: int,
    ) -> None:
        self._equations, self._centre, self._spectrum, self._how = equations, centre, spectrum, how
        self._budget, self._clock, self._seed = budget, clock, seed
        self._shape = (centre.shape[1], centre.shape[2], centre.shape[3], centre.shape[4])
        self._pooled = ring_means if how.scaled else None
        self._transform = CosineTransform.of(self._shape, centre)
        self._deviation = spectrum.variance(self._shape).sqrt().to(centre)
        self._z = torch.zeros_like(centre)
        self.best, self.least, self.steps = centre, math.inf, steps
        self.trace: list[Trace] = []

    def run(self, pace: Pace, number: int) -> Outcome:
        """Go level by level until nothing more comes."""
        error, unfitted, before = _LARGEST, list(self._how.fitted), number / len(self._how.paces)
        for level in range(pace.levels):
            now = self._level(error)
            done = max(_done(error), (level + 1) / pace.levels)
            self._budget.progress(before + done / len(self._how.paces))
            if not bool(torch.isfinite(self._z).all()) or now > _WORSE * self.least or _settled(self.trace):
                break
            if self._clock.left < 0.0 or self.steps >= self._budget.steps:
                return Outcome.OUT_OF_BUDGET
            if unfitted and error < unfitted[0]:
                unfitted.pop(0)
                self._fit(error)
            error = pace.next(error, now)
            if error < _LEAST:
                break
        return Outcome.CONVERGED

    def _level(self, error: float) -> float:
        """Make one step of Gauss-Newton; return what the equations then miss."""
        step = gauss_newton(self._off(error), self._z, self._most(error), _TOLERANCE, self._clock, self._pooled)
        self._z, self.steps = step.variable, self.steps + step.products
        clips = (self._centre + self._transform.clips(self._z * self._deviation)).clamp(0.0, 1.0).detach()
        now = self._equations.misfit(clips)
        self.trace.append(Trace(step=self.steps, seconds=self._clock.used, objective=now))
        if now < self.least:
            self.best, self.least = clips, now
        return now

    def _off(self, error: float) -> Residuals:
        return lambda z: self._equations(self._centre + self._transform.clips(z * self._deviation), error)

    def _most(self, error: float) -> int:
        # What is added keeps rounding from taking one of a whole number.
        most = int(_FIRST * (_LARGEST / error) ** _GROWTH + 1e-6)
        return min(most, _MOST, max(self._budget.steps - self.steps, 1))

    def _fit(self, error: float) -> None:
        """Fit the prior to the clip, and to what is still open of it."""
        about = Linearised(self._off(error), self._z, self._pooled)
        missed = about.posterior_error(self._most(error), _TOLERANCE, self._clock, self._seed)
        power = ((self._z.square() + missed.square()) * self._deviation.square()).mean(0)
        self._spectrum = self._spectrum.fitted(power)
        fresh = self._spectrum.variance(self._shape).sqrt().to(self._centre)
        self._z, self._deviation = self._z * self._deviation / fresh, fresh


def _done(error: float) -> float:
    return min(math.log(_LARGEST / error) / math.log(_LARGEST / _LEAST), 1.0)


def _settled(trace: Sequence[Trace]) -> bool:
    """Tell whether the last levels left what the equations miss as it was."""
    misfits = [one.objective for one in trace]
    before = misfits[:-_LEVELS_SETTLED]
    return bool(before) and min(misfits[-_LEVELS_SETTLED:]) > _SETTLED * min(before)
