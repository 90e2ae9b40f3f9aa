"""Layer-wise recursion: linear equations from the head down, then least squares over what they leave of the clip."""

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from auditor.attack.base import ANY_SIZE, Attack, skipped
from auditor.attack.certificate import residual, solved
from auditor.attack.closed_form.pixel_map import PixelMap, pixel_map
from auditor.attack.matching.statistical_linearisation import SmoothRectifiers
from auditor.attack.recursion.layer_inputs import NO_HEAD, Descent
from auditor.attack.recursion.layer_inputs import descend as descend_anew
from auditor.attack.recursion.one_gradient import no_single_gradient
from auditor.attack.recursion.remembered_descent import descend
from auditor.attack.recursion.search.mode_search import ModeSearch, Pace, search_modes
from auditor.attack.recursion.subnetwork import run
from auditor.attack.recursion.weight_system import columns
from auditor.attack.start import reference_copy
from auditor.prior.spectrum import Spectrum
from auditor.records import Budget, Clips, Clock, Effect, Label, Outcome, Reconstruction, Skipped, View

# How fast the admitted error shrinks, and below which the prior is fitted; measured on the benchmarks' flatten nets.
_PACE, _FITTED = Pace(fast=0.68, slow=0.68, levels=16), (0.16, 0.05)


@dataclass(frozen=True)
class Equations:
    """What must hold of a clip, in units of the error that a level admits."""

    view: View
    descent: Descent
    below: Mapping[str, Tensor]
    width: float

    def __call__(self, clips: Clips, error: float) -> Sequence[Tensor]:
        """Return residuals: the equations of the anchored layer's input, its known values, gradients further down."""
        deepest, model = self.descent.deepest, self.view.target.model
        name = deepest.operation.weight
        with SmoothRectifiers(self.width * error) if self.width > 0.0 else nullcontext():
            seen, _ = run(model, clips, self.descent.weights, until=name)
            call = seen[name][0]
            made: list[Tensor] = []
            if deepest.side == "output":
                out = call.output
                if deepest.system is not None:
                    made.append(self._rows(call.input, error))
                made.append(_values(out, deepest.value, deepest.flat) / (error * self._spread()))
            else:
                out = call.input
                made.append((out - deepest.value) / (error * _size(deepest.value)))
            if self.below:
                sent = dict(model.named_parameters())
                gradients = torch.autograd.grad(
                    out, [sent[n] for n in self.below], deepest.cotangent, create_graph=True, allow_unused=True
                )
                for wanted, got in zip(self.below.values(), gradients, strict=True):
                    if got is not None and got.requires_grad:
                        made.append((got - wanted) / (error * _size(wanted)))
        return made

    def misfit(self, clips: Clips) -> float:
        """Return the mean over all kinds of equations of their squared error, relative to what they hold."""
        exact = replace(self, width=0.0)
        groups = [float(r.detach().double().square().mean()) for r in exact(clips.detach(), 1.0)]
        value = sum(groups) / len(groups)
        return value if math.isfinite(value) else math.inf

    def _rows(self, value: Tensor, error: float) -> Tensor:
        system = self.descent.deepest.system
        assert system is not None
        off = system.projections.to(value) @ columns(value, self.descent.deepest.operation) - system.known.to(value)
        admitted = error * _size(system.known)
        return off / (system.noise.to(value).square()[:, None] + admitted**2).sqrt()

    def _spread(self) -> Tensor:
        """Return how far an error of the input moves every output channel, for an error as large as the input."""
        deepest = self.descent.deepest
        assert deepest.system is not None or deepest.side == "output"
        operation = deepest.operation
        known = deepest.system.known if deepest.system is not None else operation.input
        settings = operation.convolution
        if settings is None:
            return deepest.value.new_tensor(_size(deepest.value))
        rows = settings["weight"].detach().flatten(1).norm(dim=1).to(deepest.value) * _size(known)
        return rows.clamp(min=1e-12).view(-1, *[1] * int(settings["axes"]))


def _size(value: Tensor) -> float:
    return max(float(value.double().square().mean().sqrt()), 1e-30)


def _values(out: Tensor, value: Tensor, flat: Tensor) -> Tensor:
    """Return how far values are off; beyond the edge of a flat part nothing is known."""
    off = out - value
    return torch.where(flat == 0, off, torch.where(flat < 0, off.clamp(min=0.0), off.clamp(max=0.0)))


@dataclass(frozen=True, kw_only=True)
class LayerRecursion(Attack):
    """Solve layers exactly from the head down; then fit the clip to all that is linear once they are known.

    The input of the lowest exact layer gives the values and the loss's gradient at the output of the layer below. With
    these held, a single backward pass gives what the clip's gradient would be below, and least squares (Gauss-Newton
    with conjugate gradients) over cosine modes with a normal prior finds the clip. The error that the model admits
    shrinks from level to level, and with it the smoothing of rectifiers; the prior's numbers are fitted on the way.

    Attributes
    ----------
    width
        Smoothing of rectifiers, relative to the admitted error.
    adapt
        Whether the prior is fitted to the clip.
    references
        How many frames of the scene the attacker holds at most (R1, Rk). The prior's mean is then their copy, not mid
        grey, and `spectrum` is of what the copy leaves of a clip.
    """

    knows: ClassVar[frozenset[Effect]] = ANY_SIZE | {"precision"}
    name: str = "layer-recursion"
    title: str = "Layer-wise recursion and least squares"
    source: str = (
        "after R-GAP (Zhu & Blaschko 2021, arXiv 2010.07733) and COPA (Chen & Campbell 2021, arXiv 2111.10178)"
    )
    width: float = 1.0
    adapt: bool = True
    references: int = 0
    spectrum: Spectrum = field(default_factory=Spectrum)

    @property
    def frames_of_scene(self) -> int:
        """How many reference frames it searches around."""
        return self.references

    def obstacle(self, view: View) -> str | None:
        """Need one clip, one gradient, no unknown masks, and finite values that are not all zero."""
        if self.references and view.knowledge.reference is None:
            return "this attacker has no reference frame"
        # To follow the chain of a large net down to find that out takes minutes.
        if not any(layer.kind == "linear" and (layer.rows or 1) == 1 for layer in view.target.layers):
            return NO_HEAD
        return no_single_gradient(view)

    def invert(self, view: View, budget: Budget, seed: int) -> Reconstruction | Skipped:
        """Descend; read the clip off where the recursion reached the pixels, else search for it."""
        clock = Clock(budget.seconds)
        found = descend(view)
        if isinstance(found, str):
            return skipped(self, found)
        labels: tuple[Label, ...] = view.knowledge.labels or (0,)
        exact = self._exact(view, found, labels, clock, seed)
        if exact is not None:
            return exact
        if len(found.exact) < 2 and found.deepest.side == "input":
            why = found.ended or "below it the clip takes more than one way"
            return skipped(self, f"nothing below the head's input follows exactly: {why}")
        searched = self._search(view, found, labels, budget, clock, seed)
        if isinstance(searched, Reconstruction) and "undecided" in found.ended:
            # A clip that is nearly right decides what equations left open.
            again = descend_anew(view, searched.clips)
            exact = None if isinstance(again, str) else self._exact(view, again, labels, clock, seed)
            if exact is not None and exact.outcome is Outcome.SOLVED:
                return replace(exact, steps=searched.steps)
        return searched

    def _exact(
        self, view: View, found: Descent, labels: tuple[Label, ...], clock: Clock, seed: int
    ) -> Reconstruction | None:
        """Return the clip where the recursion reached the pixels."""
        if found.deepest.side != "input" or found.ended:
            return None
        pixels = self._pixels(view, found)
        if pixels is None:
            return None
        clips = pixels.to_clip(found.deepest.value)[None]
        certificate = _certificate(found) | {
            "update_residual": residual(view, clips, labels), "pixel_coverage": pixels.coverage
        }  # fmt: skip
        note = f"exact through {len(found.exact)} layers, down to the pixels"
        return solved(self.name, clips, labels, certificate, seconds=clock.used, seed=seed, note=note)

    def measure(self, view: View, clips: Clips, labels: tuple[Label, ...]) -> float | None:
        """Return the misfit of the equations; where the pixels are exact, how far the update is from the observed."""
        found = descend(view)
        if isinstance(found, str):
            return None
        if found.deepest.side == "input" and not found.ended and self._pixels(view, found) is not None:
            return residual(view, clips, labels)
        return Equations(view, found, _below(view, found), self.width).misfit(clips)

    def _pixels(self, view: View, found: Descent) -> PixelMap | None:
        deepest = found.deepest
        device = deepest.value.device
        return pixel_map(view.target.model, deepest.operation.weight, view.knowledge.clip_shape, device)

    def _search(
        self, view: View, found: Descent, labels: tuple[Label, ...], budget: Budget, clock: Clock, seed: int
    ) -> Reconstruction | Skipped:
        equations = Equations(view, found, _below(view, found), self.width)
        shape = view.knowledge.clip_shape
        grey = found.deepest.value.new_full((1, *shape), 0.5)
        centre = reference_copy(view.knowledge, self.references).to(grey).expand_as(grey) if self.references else grey
        how = ModeSearch((_PACE,), _FITTED if self.adapt else (), scaled=False)
        made = search_modes(equations, centre, self.spectrum, budget, clock, seed, how)
        if made is None:
            return skipped(self, "least squares gave no clip whose update is finite")
        return Reconstruction(
            attack=self.name,
            clips=made.clips,
            labels=labels,
            outcome=made.outcome,
            objective=made.misfit,
            certificate=_certificate(found) | {"update_residual": residual(view, made.clips, labels)},
            trace=made.trace,
            restart_objectives=(made.misfit,),
            steps=made.products,
            seconds=clock.used,
            seed=seed,
            notes=(f"exact inputs of {', '.join(found.exact)}; then least squares: {found.ended}",),
        )


def _certificate(found: Descent) -> dict[str, float]:
    return {f"system_residual:{name}": value for name, value in found.exact.items()}


def _below(view: View, found: Descent) -> dict[str, Tensor]:
    """Return the gradients that were sent of what lies below what is known, less the one its equations already hold."""
    deepest = found.deepest
    clip = torch.rand((1, *view.knowledge.clip_shape), generator=torch.Generator().manual_seed(0)).to(deepest.value)
    name = deepest.operation.weight
    with torch.enable_grad():
        seen, _ = run(view.target.model, clip, found.weights, until=name)
        out = seen[name][0].output if deepest.side == "output" else seen[name][0].input
        parameters = {n: p for n, p in view.target.model.named_parameters() if n in view.update.gradients}
        if not out.requires_grad:
            return {}
        gradients = torch.autograd.grad(out, list(parameters.values()), deepest.cotangent, allow_unused=True)
    covered = {name} if deepest.system is not None and deepest.side == "output" else set()
    return {
        n: view.update.gradients[n]
        for n, g in zip(parameters, gradients, strict=True)
        if g is not None and n not in covered and float(view.update.gradients[n].abs().max()) > 0.0
    }
