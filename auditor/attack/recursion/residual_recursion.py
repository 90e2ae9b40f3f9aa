"""Recursion through residual nets: exact values from the head down, then the clip that they are values of."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from auditor.attack.base import Attack, skipped
from auditor.attack.certificate import residual, solved
from auditor.attack.closed_form.pixel_map import pixel_map
from auditor.attack.cost import AttackCost
from auditor.attack.matching.statistical_linearisation import SmoothRectifiers
from auditor.attack.recursion.frame_order import descend_in_order
from auditor.attack.recursion.graph_descent import GraphDescent
from auditor.attack.recursion.mode_search import search_modes
from auditor.attack.recursion.one_gradient import no_single_gradient
from auditor.attack.recursion.precedence import in_the_way
from auditor.attack.recursion.recursion_work import recursion_work
from auditor.attack.recursion.weight_system import columns
from auditor.attack.spectrum import Spectrum
from auditor.records import Budget, Clips, Clock, Label, Reconstruction, Skipped, View
from auditor.results.model import Determinacy


@dataclass(frozen=True)
class ValueEquations:
    """The values that a descent found, as equations in the clip.

    Of a unit that is open its value is known, of a closed one that it is not positive. What reads a known value reads
    it as it is known, so that only what lies between the clip and the lowest known values is run.
    """

    found: GraphDescent
    width: float

    def __call__(self, clips: Clips, error: float) -> Sequence[Tensor]:
        """Return residuals in units of the error that is admitted, relative to the values' own size."""
        graph, partial = self.found.graph, self.found.partial
        made = []
        lowest = self._lowest()
        wanted = [*lowest, *([] if partial is None else [partial.value])]
        with SmoothRectifiers(self.width * error) if self.width > 0.0 else nullcontext():
            for call, values in graph.forward(clips, wanted, lowest):
                for n in call.outputs:
                    if n in lowest:
                        off = values[call.inputs[0]] - lowest[n].to(clips)
                        off = torch.where(self.found.open[n], off, off.clamp(min=0.0))
                        made.append(off / (error * _size(lowest[n])))
                    if partial is not None and n == partial.value:
                        made.append(self._projected(values[n], error))
        return made

    def misfit(self, clips: Clips) -> float:
        """Return the mean over all kinds of equations of their squared error, relative to what they hold."""
        exact = ValueEquations(self.found, 0.0)
        with torch.no_grad():
            groups = [float(r.double().square().mean()) for r in exact(clips, 1.0)]
        return sum(groups) / len(groups)

    def _projected(self, value: Tensor, error: float) -> Tensor:
        assert self.found.partial is not None
        made = self.found.partial.solved
        off = made.projections.to(value) @ columns(value, made.readings[0].operation) - made.known.to(value)
        return off / (made.noise.to(value).square()[:, None] + (error * _size(made.known)) ** 2).sqrt()

    def _lowest(self) -> Mapping[int, Tensor]:
        """Return the known values that the clip reaches without passing another."""
        found, live, lowest = self.found, {0}, {}
        for call in found.graph.calls:
            if live.intersection(call.inputs):
                lowest.update({n: found.values[n] for n in call.outputs if n in found.values})
                live.update(n for n in call.outputs if n not in found.values)
        return {n: v for n, v in lowest.items() if n in found.open}


def _size(value: Tensor) -> float:
    return max(float(value.double().square().mean().sqrt()), 1e-30)


@dataclass(frozen=True, kw_only=True)
class ResidualRecursion(Attack):
    """Solve the values between layers exactly, block by block from the head down; then search the clip they belong to.

    The weights that read a value give linear equations in it, stacked where several do; its zeros are the masks of the
    rectifier that made it, and so the gradient below (`graph_descent`). It works on the calls that the model makes, so
    residual connections, shortcuts with strides and imported graphs need nothing of their own. Where the equations
    become too few, the values so far are equations in the clip, and least squares over cosine modes finds it.

    Attributes
    ----------
    width
        Smoothing of rectifiers in the search, relative to the admitted error.
    spectrum
        How much clips vary in each mode, about mid grey.
    """

    name: str = "residual-recursion"
    title: str = "Recursion through residual blocks and least squares"
    source: str = (
        "derived for this project; after R-GAP (Zhu & Blaschko 2021, arXiv 2010.07733) and COPA (Chen & Campbell 2021, "
        "arXiv 2111.10178)"
    )
    width: float = 1.0
    spectrum: Spectrum = field(default_factory=Spectrum)
    succeeds: str = "layer-recursion"

    def work(self, view: View, layers: Sequence[Determinacy]) -> AttackCost:
        """Count the decompositions on the way down, and the products of the search."""
        return recursion_work(view, layers)

    def needless(self, view: View) -> str | None:
        """Give way where nothing below the head follows, and where layer-recursion also uses the gradients below."""
        return in_the_way(view)

    def obstacle(self, view: View) -> str | None:
        """Need one gradient, the labels of several clips, BatchNorm that does not mix positions, and finite numbers."""
        return no_single_gradient(view, batches=True)

    def invert(self, view: View, budget: Budget, seed: int) -> Reconstruction | Skipped:
        """Descend; read the clip off where the recursion reached the pixels, else search for it."""
        clock = Clock(budget.seconds)
        found = descend_in_order(view, clock)
        if isinstance(found, str):
            return skipped(self, found)
        labels: tuple[Label, ...] = view.knowledge.labels or (0,)
        if not found.values:
            return skipped(self, f"nothing below the head follows exactly: {found.ended}")
        if found.bottom is not None:
            exact = self._exact(view, found, found.bottom, labels, clock, seed)
            if exact is not None:
                return exact
        equations = ValueEquations(found, self.width)
        like = next(iter(view.update.gradients.values())).float()
        grey = like.new_full((view.update.batch, *view.knowledge.clip_shape), 0.5)
        searched = search_modes(equations, grey, self.spectrum, budget, clock, seed)
        if searched is None:
            return skipped(self, "least squares gave no clip whose values are finite")
        return Reconstruction(
            attack=self.name,
            clips=searched.clips,
            labels=labels,
            outcome=searched.outcome,
            objective=searched.misfit,
            certificate=_certificate(found) | {"update_residual": residual(view, searched.clips, labels)},
            trace=searched.trace,
            restart_objectives=(searched.misfit,),
            steps=searched.products,
            seconds=clock.used,
            seed=seed,
            notes=(_note(found),),
            depth=found.depth,
            activation=found.activation,
        )

    def measure(self, view: View, clips: Clips, labels: tuple[Label, ...]) -> float | None:
        """Return the misfit of the equations; where the pixels are exact, how far the update is from the observed."""
        found = descend_in_order(view, Clock(600.0))
        if isinstance(found, str) or not found.values:
            return None
        if found.bottom is not None:
            return residual(view, clips, labels)
        return ValueEquations(found, self.width).misfit(clips)

    def _exact(
        self,
        view: View,
        found: GraphDescent,
        bottom: tuple[int, str],
        labels: tuple[Label, ...],
        clock: Clock,
        seed: int,
    ) -> Reconstruction | None:
        value, weight = bottom
        made = found.values[value]
        pixels = pixel_map(view.target.model, weight, view.knowledge.clip_shape, made.device)
        if pixels is None:
            return None
        clips = torch.stack([pixels.to_clip(one) for one in made.chunk(view.update.batch)])
        certificate = _certificate(found) | {
            "update_residual": residual(view, clips, labels), "pixel_coverage": pixels.coverage
        }  # fmt: skip
        note = f"exact through {len(found.residuals)} layers, down to the pixels"
        exact = solved(self.name, clips, labels, certificate, seconds=clock.used, seed=seed, note=note)
        return replace(exact, depth=found.depth)


def _certificate(found: GraphDescent) -> dict[str, float]:
    return {f"system_residual:{name}": value for name, value in found.residuals.items()}


def _note(found: GraphDescent) -> str:
    names = [name for name in found.residuals if not name.startswith("masks")]
    order = "; frames stand in an order of likeness, as the update is the same for any" if found.loose else ""
    return f"exact inputs of {', '.join(names)}; then least squares: {found.ended}{order}"
