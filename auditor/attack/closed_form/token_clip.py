"""One clip out of the spans that all clips of an update share, and what is left of the update without it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from auditor.attack.closed_form.token_graph import PatchEmbedding
from auditor.attack.closed_form.token_joint import solve_jointly
from auditor.attack.closed_form.token_linear import likely_directions, linear_part, smoothest
from auditor.attack.closed_form.token_problem import TokenProblem
from auditor.attack.closed_form.token_refinement import CERTAIN, polish, refine
from auditor.prior.spectrum import Spectrum
from auditor.records import Clip, Clock, Label, View

# Two clips are one where their coordinates differ by less than this share.
_SAME = 1e-2


@dataclass(frozen=True)
class TokenClip:
    """A clip with how far its tokens are from the spans.

    Attributes
    ----------
    likely
        What the linear part and the prior make of it alone.
    distance, share
        The largest distance of a token, and the share of tokens that are certain.
    apart
        How far positions tell tokens apart.
    open
        Number of directions that the linear part leaves open.
    told
        The spans that were used.
    certain
        Whether the spans prove all tokens.
    """

    clip: Clip
    likely: Clip
    distance: float
    share: float
    apart: float
    open: int
    told: str
    certain: bool


def solve_clips(problem: TokenProblem, clips: int, clock: Clock, seed: int) -> tuple[TokenClip, ...]:
    """Return the clips that the spans tell, one after the other, up to the first that is not certain.

    Every further one starts from what is left of the likely filling, as if that were the mean of all clips: far from
    those that are found. One that comes out again is no further one.
    """
    spectrum = Spectrum()
    start, free = linear_part(problem, problem.graph.graph)
    everything = torch.ones(len(start), dtype=torch.bool)

    def fill(m: Tensor, which: Tensor) -> Tensor:
        return smoothest(problem, m, free, which, spectrum)

    def likely(directions: Tensor) -> Tensor:
        return likely_directions(problem, directions, spectrum)

    filled = fill(start, everything)
    if clips == 1:
        refined = refine(problem.residuals, problem.context, filled, free, likely, fill, clock, seed)
        sharp = problem.weighted(refined.coordinates)
        m = polish(sharp.residuals, sharp.context, refined.coordinates, likely, clock).coordinates
        if len(free) and float(problem.distance(m).max()) > CERTAIN and clock.left > 0.0:
            together = solve_jointly(problem, filled, free, likely, clock, seed)
            m = min(m, together, key=lambda made: float(problem.distance(made).median()))
        return (_clip_of(problem, m, filled, len(free)),)
    solved: list[Tensor] = []
    found: list[TokenClip] = []
    while len(found) < clips and (not found or found[-1].certain):
        far = (clips * filled - sum(solved, torch.zeros_like(filled))) / (clips - len(solved))
        m = solve_jointly(problem, far, free, likely, clock, seed + len(solved))
        if any(float((m - other).norm()) < _SAME * float(other.norm()) for other in solved):
            break
        solved.append(m)
        found.append(_clip_of(problem, m, filled, len(free)))
    return tuple(found)


def _clip_of(problem: TokenProblem, m: Tensor, filled: Tensor, open_: int) -> TokenClip:
    distance, apart = problem.distance(m), problem.apart()
    return TokenClip(
        clip=problem.clip(m).clamp(0.0, 1.0).float(),
        likely=problem.clip(filled).clamp(0.0, 1.0).float(),
        distance=float(distance.max()),
        share=float((distance < CERTAIN).double().mean()),
        apart=apart,
        open=open_,
        told=problem.told(),
        certain=float(distance.max()) < CERTAIN < apart and (not open_ or problem.certifies),
    )


def without(view: View, embedding: PatchEmbedding, clip: Clip, labels: list[Label]) -> tuple[View, list[Label]]:
    """Return the update without a clip that was found, and the labels with that clip's first.

    Of the labels that are left, the clip's is the one whose gradient takes its tokens out of the patch embedding's: the
    gradient's rank falls by them.
    """
    batch = view.update.batch
    count = (batch - 1) * embedding.tokens

    def rest(label: Label) -> dict[str, Tensor]:
        own = view.client(clip[None], view.client.targets((label,)))
        return {n: (batch * g - own[n]) / (batch - 1) for n, g in view.update.gradients.items()}

    def left(gradients: Mapping[str, Tensor]) -> float:
        s = torch.linalg.svdvals(gradients[embedding.weight].double().flatten(1))
        return float(s[count:].square().sum() / s.square().sum())

    # Made again rather than kept: of large nets each is the size of the net.
    own = min(dict.fromkeys(labels), key=lambda label: left(rest(label)))
    others = list(labels)
    others.remove(own)
    update = replace(view.update, gradients=rest(own), batch=batch - 1)
    knowledge = replace(view.knowledge, batch=batch - 1, labels=tuple(others))
    return replace(view, update=update, knowledge=knowledge), [own, *others]
