"""Gradient matching as least squares: the clip that is likeliest under a prior, by Gauss-Newton over cosine modes."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from auditor.attack.as_sent import as_sent
from auditor.attack.base import Attack
from auditor.attack.certificate import residual
from auditor.attack.matching.gradient_matching import GradientMatching, labels_of, smooth
from auditor.attack.matching.parametrisation import Modes
from auditor.attack.matching.prior import NearReference, SpatialVariation, TemporalVariation
from auditor.attack.matching.statistical_linearisation import SmoothRectifiers
from auditor.attack.start import GivenClips, Grey, ReferenceFrame, reference_copy
from auditor.prior.modes import CosineTransform
from auditor.prior.spectrum import Spectrum
from auditor.records import (
    Budget,
    Checkpoint,
    Clips,
    Clock,
    Defence,
    Outcome,
    Reconstruction,
    Skipped,
    Trace,
    TrainingStep,
    View,
    deviation_of,
)
from auditor.solvers.descent import checkpoint, held
from auditor.solvers.gauss_newton import gauss_newton
from auditor.solvers.schedule import Schedule

# A product with J'J is two backward passes through the gradient; a descent's step is about one.
_STEPS_PER_PRODUCT = 2
# Products of the first level, by which the work of one is told, and the fewest of a search that proves anything.
_FIRST, _LEAST = 8, 20
# What the first level computes besides its products, in products.
_ASIDE = 3
# Fewer products a level would not move the clip; with less, there are fewer levels.
_PER_LEVEL = 5
_TOLERANCE = 1e-2
# Rows weaker than their parameter's mean by this factor are rounding, not signal.
_FLOOR = 1e-2
# Deviation of a random start, in units of the prior's.
_SPREAD = 0.3
# The admitted error ends at this share of what defences add to an entry: below, levels fit noise. Measured with 100
# steps under noise of 0.03 to 1 of the update, four nets and two clips: 0.1 to 0.3 gain 0.3 to 1.3 dB, 1 costs 0.5 dB
# under strong noise.
_OF_NOISE = 0.3
# Fewest steps of a descent beside the search: with 60, descent and polish became one earlier, which cost 1 dB around a
# reference and nothing without.
_BESIDE = 40
# A last level that lowered the distance by more than this factor had not reached a plateau.
_FALLING = 0.9


@dataclass(frozen=True, kw_only=True)
class LeastSquaresMatching(Attack):
    """min over z of sum_l ||g_l(x) - g*_l||^2 / (e s_l)^2 + ||z||^2, x = 0.5 + C(z sqrt(D)), e falling level by level.

    s_l is the root mean square of g*_l (of each of its rows, half-way, where the net is smooth), e the error that the
    model of the gradient admits, D the prior variance of the cosine modes. Each level makes one Gauss-Newton step, its
    linear system solved by conjugate gradients. Rectifiers are replaced by what they are on average for an input
    known up to a Gaussian error of e times its deviation (statistical linearisation); so the objective has no kinks
    while the clip is uncertain, and becomes the exact one as e falls. Derived for this project; measured 1 to 4 dB
    above soft-sign Adam over the same modes in half its time on most nets, with kinks and without (benchmarks/README).

    Under defences g_l(x) is what would have been sent, and equations weigh 1 / ((e s_l)^2 + d_l^2), d_l the deviation
    of noise or rounding: no level asks them to agree better than they can, and the last admits a share of d_l.

    Attributes
    ----------
    levels, first, last, smooth_last
        How many levels, and the admitted error at the first and the last one (of a smooth net: `smooth_last`).
    growth
        Conjugate gradient products of the last level, in units of those of the first.
    width
        Smoothing of rectifiers in units of the admitted error.
    rival, polish
        Shares of the budget, in nonsmooth nets: for soft-signed descent over the same modes from grey, which is better
        where the update determines the clip well; and for polishing the nearer of the two. 0 for none.
    references
        How many frames of the scene the attacker holds at most (R1, Rk). The prior's mean is then their copy, not mid
        grey, and `spectrum` is of what the copy leaves of a clip.
    restarts
        Searches: the first from the prior's mean, the others from draws of the prior; the lowest distance wins.
    """

    name: str = "least-squares-matching"
    title: str = "Gradient matching by least squares with a prior of clips"
    source: str = (
        "objective of Zhu et al. 2019 (arXiv 1906.08935), weighted, as maximum a posteriori by Gauss-Newton; "
        "statistical linearisation (Gelb 1974); spectrum after Dong & Atick 1995; derived here"
    )
    levels: int = 12
    first: float = 1.0
    last: float = 0.003
    smooth_last: float = 0.001
    growth: float = 10.0
    width: float = 1.0
    rival: float = 0.3
    polish: float = 0.3
    restarts: int = 1
    references: int = 0
    spectrum: Spectrum = field(default_factory=Spectrum)

    @property
    def frames_of_scene(self) -> int:
        """How many reference frames it searches around."""
        return self.references

    @property
    def least_steps(self) -> int:
        """Count the fewest products, of the share that a nonsmooth net leaves to the first search."""
        products = _LEAST + _ASIDE
        return math.ceil(_STEPS_PER_PRODUCT * products * self.restarts / (1.0 - self.rival - self.polish))

    def meets(self, defence: Defence) -> bool:
        """Compare updates as they are sent, whatever the defence."""
        return True

    def obstacle(self, view: View) -> str | None:
        """Need finite gradients that are not all zero, and a reference where the search is around one."""
        if self.references and view.knowledge.reference is None:
            return "this attacker has no reference frame"
        gradients = [g for g in view.update.gradients.values() if g.numel()]
        if not all(bool(torch.isfinite(g).all()) for g in gradients):
            return "the update holds values that are not finite"
        if all(float(g.abs().max()) == 0.0 for g in gradients):
            return "the update is zero"
        return None

    def memory(self, view: View, step: TrainingStep, clips: int) -> int:
        """Count products with the gradient's Jacobian, of rectifiers' averages where the net has rectifiers."""
        return step.jacobian_bytes(clips) if smooth(view) else step.smoothed_bytes(clips)

    def invert(self, view: View, budget: Budget, seed: int) -> Reconstruction | Skipped:
        """Search once or several times, keep the clips whose update is nearest, and polish them."""
        is_smooth, parts = smooth(view), self.rival + self.polish
        nonsmooth = not is_smooth and parts * budget.steps >= _BESIDE
        clock = Clock(budget.seconds)
        found: list[Reconstruction] = []
        pace = 0.0
        # Rather one search than several with too little work each, and rather that alone than beside a descent.
        for restarts, beside in dict.fromkeys(((self.restarts, nonsmooth), (1, nonsmooth), (1, False))):
            budget, own = replace(budget, seconds=clock.left), 1.0 - parts if beside else 1.0
            made = self._searched(view, budget, seed, own, restarts, is_smooth)
            if isinstance(made, float):
                pace = made
                continue
            found += made
            if not beside:
                break
            best = self._beside(_best(found, seed), view, budget, own, seed)
            if best is not None:
                return best
        return _best(found, seed) if found else self._too_slow(pace, budget)

    def _searched(
        self, view: View, budget: Budget, seed: int, own: float, restarts: int, smooth: bool
    ) -> Sequence[Reconstruction] | float:
        """Return what searches found in their `own` share of the work, or what a product takes where it holds none."""
        found: list[Reconstruction] = []
        for restart in range(restarts):
            share = _portion(budget, own * restart / restarts, own / restarts)
            made = _Search(self, view, share, seed * 1000 + restart, random=restart > 0, smooth=smooth).run()
            if isinstance(made, float):
                return found or made
            found.append(made)
        return found

    def _beside(self, best: Reconstruction, view: View, budget: Budget, own: float, seed: int) -> Reconstruction | None:
        """Descend beside the search, and polish what is nearer; None where the work holds no descent."""
        # Descent with few steps does better where fine modes move little: up to 4 dB in a net with two pathways.
        near = (NearReference(0.1, self.references),) if self.references else ()
        descent = GradientMatching(
            start=ReferenceFrame(count=self.references) if self.references else Grey(),
            priors=(TemporalVariation(0.1), SpatialVariation(0.01), *near),
            schedule=Schedule(rate=0.1, anneal=0.03),
            parametrisation=Modes(),
            fewest_steps=_BESIDE,
        )
        origin = "descent from the reference" if self.references else "descent from grey"
        made = descent.invert(view, _portion(budget, own, self.rival), seed)
        if isinstance(made, Skipped):
            # One descent with all that is left rather than two with too little each.
            made = descent.invert(view, _portion(budget, own, self.rival + self.polish), seed)
            return None if isinstance(made, Skipped) else _nearer(best, made, origin, view)
        best = _nearer(best, made, origin, view)
        polish = GradientMatching(
            start=GivenClips(best.clips),
            priors=(TemporalVariation(0.02), SpatialVariation(0.002), *(replace(n, weight=0.02) for n in near)),
            schedule=Schedule(rate=0.03, anneal=0.3),
            parametrisation=Modes(spectrum=self.spectrum),
            fewest_steps=_BESIDE,
        )
        share = _portion(budget, own + self.rival, self.polish)
        return _nearer(best, polish.invert(view, share, seed), "polish", view)

    def _too_slow(self, pace: float, budget: Budget) -> Skipped:
        return Skipped(
            stage="invert",
            what=self.name,
            because="out-of-budget",
            reason=f"one product takes {pace:.2g} s; {budget.seconds:.0f} s and {budget.steps} steps hold fewer than "
            f"the {_LEAST} that would prove anything",
            remedy="give more --max-time",
        )


def _best(found: Sequence[Reconstruction], seed: int) -> Reconstruction:
    """Return the nearest of what searches found, with the cost of all."""
    return replace(
        min(found, key=lambda r: r.objective),
        restart_objectives=tuple(r.objective for r in found),
        steps=sum(r.steps for r in found),
        seconds=sum(r.seconds for r in found),
        seed=seed,
    )


def _nearer(best: Reconstruction, made: Reconstruction | Skipped, what: str, view: View) -> Reconstruction:
    """Return what a descent made, where its update is nearer, with the cost of both."""
    if isinstance(made, Skipped):
        return replace(best, notes=(*best.notes, f"no {what}: {made.reason}"))
    off = residual(view, made.clips, best.labels)
    note = f"{what}, {made.steps} steps: {off:.1e} after {best.objective:.1e}"
    steps, seconds = best.steps + made.steps, best.seconds + made.seconds
    spent = replace(best, steps=steps, seconds=seconds, notes=(*best.notes, note))
    if not off < best.objective:
        return spent
    last = (checkpoint(steps, seconds, off, made.clips, made.clips),) if best.checkpoints else ()
    return replace(
        spent,
        clips=made.clips,
        objective=off,
        outcome=made.outcome,
        trace=(*best.trace, Trace(step=steps, seconds=seconds, objective=off)),
        restart_objectives=tuple(off if o == best.objective else o for o in best.restart_objectives),
        checkpoints=(*best.checkpoints, *last),
    )


class _Search:
    def __init__(
        self, attack: LeastSquaresMatching, view: View, budget: Budget, seed: int, random: bool, smooth: bool
    ) -> None:
        self._attack, self._view, self._budget = attack, view, budget
        self._clock = Clock(budget.seconds)
        self._labels = labels_of(view)
        self._targets = view.client.targets(self._labels)
        self._observed = dict(view.update.gradients)
        device = next(iter(self._observed.values())).device
        shape = (view.update.batch, *view.knowledge.clip_shape)
        self._like = torch.zeros(shape, device=device)
        self._centre: Tensor | float = 0.5
        if attack.references:
            self._centre = reference_copy(view.knowledge, attack.references).to(self._like)
        variance = attack.spectrum.variance(view.knowledge.clip_shape)
        # Constant modes vary far more than others; measured, conjugate gradients lose up to 1.6 dB on that.
        variance[0, :, 0, 0] = variance[0, :, 0, min(1, variance.shape[3] - 1)]
        self._deviation = variance.sqrt().to(self._like)
        self._transform = CosineTransform.of(view.knowledge.clip_shape, self._like)
        self._smooth = smooth
        self._deviations = deviation_of(view.knowledge.defences, self._observed, view.client.protocol.clients)
        self._scales = {n: _scale(g, self._smooth) for n, g in self._observed.items() if float(g.abs().max()) > 0.0}
        # Equal clips would stay equal: those of a batch start apart.
        apart = random or view.update.batch > 1
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(self._like)
        self._start = _SPREAD * noise if apart else self._like.clone()

    def run(self) -> Reconstruction | float:
        """Return what was found, or the reference seconds of one product when the budget holds too few."""
        a, z = self._attack, self._start
        last = min(a.first, max(a.smooth_last if self._smooth else a.last, _OF_NOISE * self._noise()))
        best, least, outcome = self.clips(z).clamp(0.0, 1.0), math.inf, Outcome.CONVERGED
        trace: list[Trace] = []
        kept: list[Checkpoint] = []
        done, level, levels, total = 0, 0, a.levels, _LEAST
        while level < levels and done < total:
            error = a.first * (last / a.first) ** (level / max(levels - 1, 1))
            most = _FIRST if level == 0 else min(self._share(level, levels, total), total - done)
            step = gauss_newton(self._residuals(error), z, most, _TOLERANCE, self._clock)
            z, done = step.variable, done + step.products
            if level == 0:
                pace = max(self._clock.used / (step.products + _ASIDE), 1e-9)
                total = min(self._budget.steps // _STEPS_PER_PRODUCT, held(self._budget.seconds, pace))
                if total < _LEAST:
                    return pace
                levels = min(levels, total // _PER_LEVEL)
            level += 1
            clips = self.clips(z).clamp(0.0, 1.0).detach()
            distance = residual(self._view, clips, self._labels)
            if not math.isfinite(distance):
                outcome = Outcome.DIVERGED
                break
            if distance < least:
                best, least = clips, distance
            steps = done * _STEPS_PER_PRODUCT
            trace.append(Trace(step=steps, seconds=self._clock.used, objective=distance))
            if self._budget.checkpoints:
                kept.append(checkpoint(steps, self._clock.used, least, best, clips))
            self._budget.progress(level / levels)
            if self._clock.left < 0.0:
                outcome = Outcome.OUT_OF_BUDGET
                break
        if outcome is Outcome.CONVERGED and len(trace) > 1 and trace[-1].objective < _FALLING * trace[-2].objective:
            outcome = Outcome.OUT_OF_BUDGET
        return Reconstruction(
            attack=a.name,
            clips=best,
            labels=self._labels,
            outcome=outcome,
            objective=least,
            trace=tuple(trace),
            steps=done * _STEPS_PER_PRODUCT,
            seconds=self._clock.used,
            notes=(f"{'smooth' if self._smooth else 'rectified'} net: {len(trace)} levels, {done} products",),
            checkpoints=tuple(kept),
        )

    def clips(self, z: Tensor) -> Clips:
        """Return the clips that modes in units of the prior's deviation stand for."""
        return self._centre + self._transform.clips(z * self._deviation)

    def _share(self, level: int, levels: int, total: int) -> int:
        """Return the products of a level: they grow geometrically, and all of them together are `total`."""
        ratio = self._attack.growth ** (1.0 / max(levels - 1, 1))
        return max(2, int(total * ratio**level / sum(ratio**k for k in range(levels))))

    def _residuals(self, error: float) -> Callable[[Tensor], Sequence[Tensor]]:
        def residuals(z: Tensor) -> Sequence[Tensor]:
            with SmoothRectifiers(self._attack.width * error):
                ours = self._view.client(self.clips(z), self._targets, create_graph=True)
                made = as_sent(self._view.knowledge.defences, ours, self._observed)
            return [(made[n] - self._observed[n]) / self._admitted(n, error) for n in self._scales]

        return residuals

    def _noise(self) -> float:
        """Return what defences add to an entry over the entries' size, in the mean of parameters."""
        if not self._deviations:
            return 0.0
        sizes = {n: max(float(s.double().square().mean().sqrt()), 1e-30) for n, s in self._scales.items()}
        return sum(self._deviations.get(n, 0.0) / size for n, size in sizes.items()) / len(sizes)

    def _admitted(self, name: str, error: float) -> Tensor:
        """Return how far entries of a parameter may be off: the model's error, and what defences add."""
        model = error * self._scales[name]
        deviation = self._deviations.get(name, 0.0)
        return (model.square() + deviation**2).sqrt() if deviation else model


def _scale(gradient: Tensor, by_row: bool) -> Tensor:
    """Return the size of a gradient's entries, or of each row's, half-way between the row's own and the whole's."""
    whole = gradient.square().mean().sqrt()
    if not by_row or gradient.ndim < 2:
        return whole.clamp(min=1e-30)
    rows = gradient.flatten(1).square().mean(1)
    size = ((rows + (_FLOOR * whole).square()).sqrt() * whole).sqrt().clamp(min=1e-30)
    return size.view(-1, *[1] * (gradient.ndim - 1))


def _portion(budget: Budget, begin: float, share: float) -> Budget:
    """Return a part of a budget that reports its progress from `begin` on."""
    return replace(
        budget,
        seconds=share * budget.seconds,
        steps=int(share * budget.steps),
        progress=lambda fraction: budget.progress(begin + share * fraction),
    )
