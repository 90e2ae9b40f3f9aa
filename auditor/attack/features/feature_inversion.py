"""Invert the public net towards features that a head's gradient gave away exactly."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from auditor.attack.base import ANY_SIZE, skipped
from auditor.attack.closed_form.linear_input import LinearInput, input_moves
from auditor.attack.closed_form.mean_input import recover_mean_input
from auditor.attack.features.dead_units import OPEN, OpenUnits
from auditor.attack.features.frame_span import FrameSpan
from auditor.attack.features.head_features import EXPLAINS, recover_head_features, shared_features
from auditor.attack.matching.gradient_matching import GradientMatching, labels_of
from auditor.records import Budget, Clips, Clock, Defence, Label, Reconstruction, Skipped, SplitModel, View
from auditor.solvers.descent import alone

# Share of an attack's time that solving for the features may take; the rest descends.
_SOLVING = 0.4
# What `measure` may take to solve again: the solve ends by itself long before.
_PATIENCE = 60.0


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    """Features to descend towards: a distance of clips, and how they were found."""

    distance: Callable[[Clips], Tensor]
    note: str
    certificate: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class FeatureInversion(GradientMatching):
    """min over x of ||phi(x) - f||^2 / ||f||^2 + priors(x), f features that the update gives away exactly.

    f is, in this order, the features of every frame by themselves, where the head of a two-part model tells them apart
    (`head_features`); else the exact input of a Linear layer seen by one sample (`linear_input`), or the mean of the
    rows that it sees where their answers are averaged (`mean_input`).

    A single backward pass a step, and far better conditioned than matching gradients where f is large. After
    Mahendran & Vedaldi 2015 (arXiv 1412.0035).

    Attributes
    ----------
    most_steps
        Of one descent. With more the features agree better and the clip does not: on seven nets 600 and 1,500 steps
        were 0.1 dB ahead of 300 at most, and 0.7 dB behind (benchmarks/README.md).
    """

    name: str = "feature-inversion"
    title: str = "Feature inversion from exact features"
    source: str = "Mahendran & Vedaldi 2015 (arXiv 1412.0035) on features by Geiping et al. 2020, proposition 3.1"

    most_steps: int = 300

    def steps_at_most(self, each: int) -> int:
        """Count those of all restarts, none of which makes more than `most_steps`."""
        return super().steps_at_most(min(each, self.most_steps))

    def meets(self, defence: Defence) -> bool:
        """Meet those that keep directions of gradients, to half precision: features are read off them."""
        return defence.effect in ANY_SIZE | {"precision"}

    def obstacle(self, view: View) -> str | None:
        """Need one clip and a head or a Linear layer that gives features away, and a reference frame for R1."""
        if (said := super().obstacle(view)) is not None:
            return said
        if view.update.batch != 1:
            return f"{view.update.batch} clips share the update; exact features need one"
        if next(_linear(view), None) is None and isinstance(shared_features(view), str):
            return "no Linear layer gives its input away exactly, and no head the features of every frame"
        return None

    def invert(self, view: View, budget: Budget, seed: int) -> Reconstruction | Skipped:
        """Solve for the features, then descend towards them in the time that is left."""
        clock = Clock(budget.seconds)
        wanted = _wanted(view, _SOLVING * budget.seconds)
        if isinstance(wanted, str):
            return skipped(self, wanted, "span-inversion needs the frames' span alone")
        left = replace(budget, seconds=clock.left, steps=min(budget.steps, self.most_steps))
        made = self.search(lambda configuration: alone(wanted.distance), (self.own_configuration,), view, left, seed)
        if isinstance(made, Skipped):
            return made
        return replace(made, notes=(*made.notes, wanted.note), certificate=wanted.certificate)

    def measure(self, view: View, clips: Clips, labels: tuple[Label, ...]) -> float:
        """Return the distance of the features; infinite where none are given away."""
        wanted = _wanted(view, _PATIENCE)
        return math.inf if isinstance(wanted, str) else float(wanted.distance(clips).detach())


def _wanted(view: View, seconds: float) -> _Wanted | str:
    span = shared_features(view)
    unsolved = ""
    if isinstance(span, FrameSpan):
        found = recover_head_features(view, span, labels_of(view), seconds)
        if found.residual < EXPLAINS:
            order = "in order" if found.ordered else "in an order that the update does not tell"
            return _Wanted(
                distance=_of_frames(view, found.value if found.ordered else _smooth(found.value)),
                note=f"towards the {found.value.shape[1]} features of each of {span.rows} frames, {order}: recovered "
                f"from the head's update, which they explain to {found.residual:.1e}",
                certificate={"head_residual": found.residual},
            )
        unsolved = (
            f"the frames' features could not be solved for: they explain the head's update to {found.residual:.0e} only"
        )
    linear = next(_linear(view), None)
    if linear is None:
        return span if isinstance(span, str) else unsolved
    return _of_linear(view, linear, unsolved)


def _of_frames(view: View, features: Tensor) -> Callable[[Clips], Tensor]:
    wanted, model = features.float(), view.target.model
    scale = wanted.square().sum().clamp(min=1e-30)

    def distance(x: Clips) -> Tensor:
        with OpenUnits(OPEN):
            seen = model.features(x) if isinstance(model, SplitModel) else None
        assert seen is not None
        return (seen - wanted).square().sum() / scale

    return distance


def _smooth(features: Tensor) -> Tensor:
    """Return the rows in the order that changes least from one to the next: a clip, forwards or backwards.

    Greedy from every row in turn.
    """
    steps = torch.cdist(features, features)
    best, shortest = list(range(len(features))), math.inf
    for first in range(len(features)):
        order, length = [first], 0.0
        while len(order) < len(features):
            left = [k for k in range(len(features)) if k not in order]
            nearest = min(left, key=lambda k: float(steps[order[-1], k]))
            length += float(steps[order[-1], nearest])
            order.append(nearest)
        if length < shortest:
            best, shortest = order, length
    return features[best]


def _of_linear(view: View, found: LinearInput, unsolved: str) -> _Wanted:
    wanted = found.value.float()
    scale = wanted.square().sum().clamp(min=1e-30)

    def distance(x: Clips) -> Tensor:
        with OpenUnits(OPEN):
            seen, _ = view.target.model.inputs_of(found.weight, x)
        return (seen.reshape(-1, wanted.numel()).mean(0) - wanted).square().sum() / scale

    rows = found.layer.rows or 1
    exact = not input_moves(view, found.layer)
    what = "exact input features" if exact else "input features, averaged over local steps,"
    if rows > 1:
        what = f"input features, averaged {'exactly ' if exact else 'over local steps and '}over {rows} rows,"
    note = f"towards the {wanted.numel()} {what} of {found.layer.name}" + (f"; {unsolved}" if unsolved else "")
    return _Wanted(distance=distance, note=note, certificate={"rank_one_residual": found.rank_one_residual})


def _linear(view: View) -> Iterator[LinearInput]:
    for layer in view.target.layers:
        if layer.kind == "linear":
            found = recover_mean_input(view, layer)
            if found is not None:
                yield found
