"""Recursion through residual nets: exact values from the head down, then the clip that they are values of."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch

from auditor.attack.base import ANY_SIZE, Attack, skipped
from auditor.attack.certificate import residual, solved
from auditor.attack.closed_form.pixel_map import pixel_map
from auditor.attack.cost import AttackCost
from auditor.attack.recursion.frame_order import descend_in_order
from auditor.attack.recursion.graph_descent import GraphDescent
from auditor.attack.recursion.one_gradient import no_single_gradient
from auditor.attack.recursion.precedence import in_the_way
from auditor.attack.recursion.recursion_work import recursion_work
from auditor.attack.recursion.search.mode_search import search_modes
from auditor.attack.recursion.search.value_equations import ValueEquations
from auditor.prior.spectrum import Spectrum
from auditor.records import Budget, Clips, Clock, Effect, Label, Reconstruction, Skipped, View
from auditor.results.model import Determinacy


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
        Smoothing of rectifiers and max-pools in the search, relative to the admitted error.
    spectrum
        How much clips vary in each mode, about mid grey.
    """

    knows: ClassVar[frozenset[Effect]] = ANY_SIZE | {"precision"}
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
