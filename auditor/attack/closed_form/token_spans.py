"""All tokens of a video transformer from the spans that its weight gradients hold, positions fixed or not."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from auditor.attack.base import ANY_SIZE, Attack, skipped
from auditor.attack.certificate import residual, solved
from auditor.attack.closed_form.token_clip import TokenClip, solve_clips, without
from auditor.attack.closed_form.token_problem import full_spans, pose
from auditor.attack.closed_form.token_refinement import CERTAIN
from auditor.attack.cost import AttackCost
from auditor.records import Budget, Clock, Effect, Label, Layer, Outcome, Reconstruction, Skipped, View
from auditor.results.model import Determinacy

# Multiplications of a whole refinement, in units of tokens^2 * features: measured 4.5 s of CPU for 64 tokens of 384
# features and 108 s for 196 of 768, where one multiplication of a decomposition takes about a nanosecond; three times
# that, for tokens that have to be solved for jointly (15 to 58 s for 64).
_REFINEMENT = 12_000.0
# The same of a clip among several, times the clips: measured 17 to 45 s for two clips of 32 tokens of 384 features.
_JOINT = 30_000.0


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
    directions of a span, they are read off the rows of all tokens; such spans certify nothing. Several clips share the
    spans, and the tokens of each lie in them with its own context (`token_joint`): one is solved for after the other,
    and the last also from the update without the others. Learned positions, whose gradient adds clips up, leave as many
    directions open as the others have tokens. Derived for this project.
    """

    knows: ClassVar[frozenset[Effect]] = ANY_SIZE
    name: str = "token-spans"
    title: str = "Closed form: tokens in the spans of a transformer's first block"
    source: str = "derived for this project (2026): rows that a Linear reads lie in the row space of its gradient"
    closed_form: bool = True

    def work(self, view: View, layers: Sequence[Determinacy]) -> AttackCost:
        """Count a refinement: every step runs drawn units of the first block once for each token and coordinate."""
        tokens, features = _size(_first(view))
        clips = view.update.batch
        each = _REFINEMENT if clips == 1 else _JOINT * clips
        applies = tokens * clips < features
        return AttackCost(multiplications=each * clips * tokens**2 * features if applies else 0.0, gradients=2.0)

    def obstacle(self, view: View) -> str | None:
        """Need one gradient and finite numbers; of several clips, their labels and the size of the update."""
        if view.update.batch > 1 and (view.knowledge.labels is None or view.scale is None):
            return f"{view.update.batch} clips share the update, whose labels and size have to be known to part them"
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
        """Solve the linear part, fill what is open by the prior, refine; the last of several clips also as the rest.

        Clips that are not told are filled as the prior has it.
        """
        clock = Clock(budget.seconds)
        batch = view.update.batch
        problem = pose(view)
        if isinstance(problem, str):
            return skipped(self, problem)
        found = list(solve_clips(problem, batch, clock, seed))
        sure = [one for one in found if one.certain]
        rest, labels = view, list(view.knowledge.labels or (0,) * batch)
        for place, one in enumerate(sure[: batch - 1]):
            rest, labels[place:] = without(rest, problem.embedding, one.clip, labels[place:])
        if len(sure) == batch - 1 > 0:
            alone = pose(rest)
            last = () if isinstance(alone, str) else solve_clips(alone, 1, clock, seed)
            found = [*sure, *(last or found[len(sure) :])]
        clips = torch.stack([one.clip for one in found] + [found[-1].likely] * (batch - len(found)))
        return self._told(view, found, clips, tuple(labels), clock, seed)

    def _told(
        self,
        view: View,
        found: Sequence[TokenClip],
        clips: Tensor,
        labels: tuple[Label, ...],
        clock: Clock,
        seed: int,
    ) -> Reconstruction:
        off, apart = max(one.distance for one in found), min(one.apart for one in found)
        certain = all(one.certain for one in found) and len(found) == len(clips)
        proof = {
            "update_residual": residual(view, clips, labels),
            "span_residual": off,
            "positions_apart": apart,
            "tokens_certain": sum(one.share for one in found) / len(clips),
            "open_directions": float(max(one.open for one in found)),
        }
        note = f"{found[0].told}; the linear part leaves {found[0].open} directions open"
        note += "" if apart > CERTAIN else "; positions do not tell all tokens apart, so their order is open"
        if len(clips) > 1:
            done = sum(one.certain for one in found)
            note += f"; {done} of {len(clips)} clips came out"
        by = "span_residual" if view.knowledge.labels is None or view.scale is None else "update_residual"
        made = solved(self.name, clips, labels, proof, seconds=clock.used, seed=seed, note=note, by=by)
        # The update hardly moves with tokens that are nearly right: the spans are the sharper certificate.
        return made if certain else replace(made, outcome=Outcome.UNVERIFIED)


def _crowded(view: View) -> str | None:
    """Tell from shapes alone that what reads the clip makes no tokens of pixels, or as many as features."""
    first = _first(view)
    walk = None if first is None else first.convolution
    if first is not None and walk is not None and (walk.kernel != walk.stride or any(walk.padding)):
        sizes = " and stride ".join("x".join(map(str, s)) for s in (walk.kernel, walk.stride))
        return f"{first.name} reads patches that overlap (kernel {sizes}): they are no tokens with pixels of their own"
    tokens, features = _size(first)
    tokens *= view.update.batch
    return None if tokens < features else full_spans(tokens, features)
