"""All tokens of a video transformer from the spans that its weight gradients hold, positions fixed or not."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from auditor.attack.base import Attack, skipped
from auditor.attack.certificate import residual, solved
from auditor.attack.closed_form.token_linear import likely_directions, linear_part, smoothest
from auditor.attack.closed_form.token_problem import TokenProblem, full_spans, pose
from auditor.attack.closed_form.token_refinement import CERTAIN, Refinement, polish, refine
from auditor.attack.cost import AttackCost
from auditor.attack.spectrum import Spectrum
from auditor.records import Budget, Clock, Label, Layer, Outcome, Reconstruction, Skipped, View
from auditor.results.model import Determinacy

# Multiplications of a whole refinement, in units of tokens^2 * features: measured 4.5 s of CPU for 64 tokens of 384
# features and 108 s for 196 of 768, where one multiplication of a decomposition takes about a nanosecond.
_REFINEMENT = 4000.0


def _first(view: View) -> Layer | None:
    """Return the layer that makes tokens, if it is one that can."""
    return next((x for x in view.target.layers if x.output_shape and (x.convolution or x.kind == "linear")), None)


def _size(first: Layer | None) -> tuple[int, int]:
    """Return tokens and features of what reads the clip, from shapes."""
    if first is None:
        return 0, 0
    if first.convolution is None:
        return first.rows or 1, first.output_shape[-1]
    images, features, *grid = first.output_shape
    return images * math.prod(grid), features


@dataclass(frozen=True, kw_only=True)
class TokenSpans(Attack):
    """Solve for the tokens that lie in all spans which the first block's gradients hold.

    The embedding's gradient is dE = Delta' X, so every patch is x_t = m_t A with A its row space, as long as there are
    fewer tokens than features. Rows that a Linear reads lie in the row space of its gradient: linear equations behind
    the first norm, and what positions alike leave open of them follows from the attention's output, the second norm
    and the hidden units, whose nonlinearity tells tokens apart (`token_refinement`). No labels, head or deeper blocks
    are used, and neither does a position embedding's gradient matter: it may be a fixed table. Where rounding hides
    directions of a span, they are read off the rows of all tokens; such spans certify nothing. Derived for this
    project.
    """

    name: str = "token-spans"
    title: str = "Closed form: tokens in the spans of a transformer's first block"
    source: str = "derived for this project (2026): rows that a Linear reads lie in the row space of its gradient"
    closed_form: bool = True

    def work(self, view: View, layers: Sequence[Determinacy]) -> AttackCost:
        """Count a refinement: every step runs drawn units of the first block once for each token and coordinate."""
        tokens, features = _size(_first(view))
        applies = tokens < features
        return AttackCost(multiplications=_REFINEMENT * tokens**2 * features if applies else 0.0, gradients=2.0)

    def obstacle(self, view: View) -> str | None:
        """Need one clip, one gradient and finite numbers."""
        if view.update.batch != 1:
            return f"{view.update.batch} clips share the update; the spans hold the tokens of all"
        if not view.one_gradient:
            return "the update may hold several gradients"
        if view.client.protocol.dropout == "on":
            return "dropout drew masks that the attacker does not know"
        if not all(bool(torch.isfinite(g).all()) for g in view.update.gradients.values()):
            return "the update is not finite"
        if not any(layer.kind == "linear" and (layer.rows or 0) > 1 for layer in view.target.layers):
            return "no Linear layer reads several tokens of a clip"
        return _crowded(view)

    def invert(self, view: View, budget: Budget, seed: int) -> Reconstruction | Skipped:
        """Solve the linear part, fill what is open by the prior, refine token by token."""
        clock = Clock(budget.seconds)
        problem = pose(view)
        if isinstance(problem, str):
            return skipped(self, problem)
        start, free = linear_part(problem, problem.graph.graph)
        made = self._refined(problem, start, free, clock, seed)
        distance = problem.distance(made.coordinates)
        off = float(distance.max())
        labels: tuple[Label, ...] = view.knowledge.labels or (0,)
        clips = problem.clip(made.coordinates).clamp(0.0, 1.0).float()[None]
        apart = problem.apart()
        proof = {
            "update_residual": residual(view, clips, labels),
            "span_residual": off,
            "positions_apart": apart,
            "tokens_certain": float((distance < CERTAIN).double().mean()),
            "open_directions": float(len(free)),
        }
        note = f"{problem.told()}; the first norm leaves {len(free)} directions open"
        note += "" if apart > CERTAIN else "; positions do not tell all tokens apart, so their order is open"
        by = "span_residual" if view.knowledge.labels is None or view.scale is None else "update_residual"
        made_of_it = solved(self.name, clips, labels, proof, seconds=clock.used, seed=seed, note=note, by=by)
        # The update hardly moves with tokens that are nearly right: the spans are the sharper certificate.
        certain = off < CERTAIN < apart and (not len(free) or problem.certifies)
        return made_of_it if certain else replace(made_of_it, outcome=Outcome.UNVERIFIED)

    def _refined(self, problem: TokenProblem, start: Tensor, free: Tensor, clock: Clock, seed: int) -> Refinement:
        spectrum = Spectrum()
        everything = torch.ones(len(start), dtype=torch.bool)

        def fill(m: Tensor, which: Tensor) -> Tensor:
            return smoothest(problem, m, free, which, spectrum)

        def likely(directions: Tensor) -> Tensor:
            return likely_directions(problem, directions, spectrum)

        filled = fill(start, everything)
        found = refine(problem.residuals, problem.context, filled, free, likely, fill, clock, seed)
        sharp = problem.weighted(found.coordinates)
        return polish(sharp.residuals, sharp.context, found.coordinates, likely, clock)


def _crowded(view: View) -> str | None:
    """Tell from shapes alone that what reads the clip makes no tokens of pixels, or as many as features."""
    first = _first(view)
    walk = None if first is None else first.convolution
    if first is not None and walk is not None and (walk.kernel != walk.stride or any(walk.padding)):
        sizes = " and stride ".join("x".join(map(str, s)) for s in (walk.kernel, walk.stride))
        return f"{first.name} reads patches that overlap (kernel {sizes}): they are no tokens with pixels of their own"
    tokens, features = _size(first)
    return None if tokens < features else full_spans(tokens, features)
