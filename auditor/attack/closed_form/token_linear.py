"""Tokens as far as the first norm's span tells them linearly, and the likeliest filling of what it leaves open."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from auditor.attack.closed_form.token_graph import TokenGraph
from auditor.attack.closed_form.token_problem import Span, TokenProblem
from auditor.attack.recursion.call_graph import CallGraph
from auditor.prior.modes import CosineTransform
from auditor.prior.spectrum import Spectrum
from auditor.solvers.conjugate_gradients import conjugate_gradients

# Directions of the linear system below this share are left to the nonlinear part.
_LINEAR = 1e-3
_AFFINE = 1e-9
# Rounds between the linear system and the directions that rounding hides of its span.
_ALTERNATIONS = 20
# Patches drawn from the prior for each direction, and the least expected length of one against the longest.
_DRAWN, _UNLIKELY = 20, 1e-3
_PRIOR_STEPS, _PRIOR_ENOUGH = 200, 1e-4


def linear_part(problem: TokenProblem, graph: CallGraph) -> tuple[Tensor, Tensor]:
    """Return coordinates m (token, coordinate) as far as a norm's span tells them linearly, and open directions.

    The first Linear reads gamma * C z / s + beta with z = E A' m + c affine in m, C the centring and s the token's own
    deviation. Times s it is linear in (m, s), with one matrix for all tokens: [gamma C z + beta s; s] lies in the span.
    """
    count, tokens = len(problem.rows), problem.embedding.tokens
    if problem.positions is not None:
        start = torch.linalg.pinv(problem.positions)
        return start, torch.linalg.svd(problem.positions, full_matrices=True)[0][:, tokens:].T
    norm = _norm(problem, graph)
    if norm is None:
        everything = torch.eye(count, dtype=torch.float64)
        if problem.level is None:
            return torch.zeros_like(everything)[:tokens], everything
        level = problem.level / problem.level.square().sum()
        return level.expand(tokens, -1).clone(), torch.linalg.svd(level[None], full_matrices=True)[2][1:]
    span, value, gamma, beta = norm
    run = TokenGraph(graph, problem.embedding, problem.graph.bias, [value])
    assert run.find_rows()
    rows = run.rows[value]
    features = problem.embedding.matrix.shape[0]
    zero = run.run(torch.zeros(tokens, features, dtype=torch.float64))[0][value][rows]
    columns = [run.run(problem.moves[k].expand(tokens, -1))[0][value][rows][0] - zero[0] for k in range(count)]
    moves = torch.stack(columns, dim=1)
    centred = gamma[:, None] * (moves - moves.mean(0))
    offset = gamma * (zero - zero.mean(1, keepdim=True))
    known, right = torch.cat([centred, beta[:, None]], 1), offset
    if span.bias:
        last = torch.zeros(1, count + 1, dtype=torch.float64)
        last[0, -1] = 1.0
        known, right = torch.cat([known, last]), torch.cat([right, torch.zeros(tokens, 1, dtype=torch.float64)], 1)
    outside = torch.linalg.svd(span.basis, full_matrices=True)[2][len(span.basis) :]
    equations = (outside @ known, -outside @ right.T)
    found, free = _solved(problem, *equations)
    for _ in range(_ALTERNATIONS if span.lost else 0):
        off = equations[0] @ found - equations[1]
        hidden = torch.linalg.svd(off, full_matrices=False)[0][:, : span.lost]
        found, free = _solved(problem, *(e - hidden @ (hidden.T @ e) for e in equations))
    return found[:count].T, free


def _solved(problem: TokenProblem, system: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return coordinates and deviation by token, `(coordinate + 1, token)`, and what stays open of the coordinates."""
    count, tokens = len(problem.rows), problem.embedding.tokens
    if problem.level is not None:
        scale = system.norm() / system.shape[1] ** 0.5 / problem.level.norm()
        row = torch.cat([problem.level, torch.zeros(1, dtype=torch.float64)]) * scale
        system = torch.cat([system, row[None]])
        target = torch.cat([target, torch.ones(1, tokens, dtype=torch.float64) * scale])
    size = system.norm(dim=0)
    # Without shift and bias a token's deviation is in no equation.
    told = size > _AFFINE * size.max()
    u, s, v = torch.linalg.svd(system[:, told] / size[told], full_matrices=False)
    kept = s > _LINEAR * s[0]
    found = torch.zeros(count + 1, tokens, dtype=torch.float64)
    found[told] = (v[kept].T @ ((u[:, kept].T @ target) / s[kept, None])) / size[told, None]
    open_ = torch.zeros(count + 1, int((~kept).sum()), dtype=torch.float64)
    open_[told] = v[~kept].T / size[told, None]
    free = torch.linalg.qr(open_[:count]).Q.T if open_.shape[1] else open_[:count].T
    return found, free


def _norm(problem: TokenProblem, graph: CallGraph) -> tuple[Span, int, Tensor, Tensor] | None:
    """Return the first span where a LayerNorm makes its rows, what that norm reads, and its weight and bias."""
    span = problem.spans[0]
    call = graph.calls[graph.producer[span.value]]
    while graph.rearranges(call) and call.inputs[0] in graph.producer:
        call = graph.calls[graph.producer[call.inputs[0]]]
    tensors = [a for a in (*call.args, *call.kwargs.values()) if isinstance(a, Tensor)]
    if call.name != "layer_norm" or len(tensors) != 2 or not _affine(problem, call.inputs[0]):
        return None
    return span, call.inputs[0], tensors[0].detach().double(), tensors[1].detach().double()


def _affine(problem: TokenProblem, value: int) -> bool:
    """Tell whether a value is affine in the tokens."""
    run = TokenGraph(problem.graph.graph, problem.embedding, problem.graph.bias, [value])
    generator = torch.Generator().manual_seed(0)
    shape = (problem.embedding.tokens, problem.embedding.matrix.shape[0])
    a, b = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    zero, first, second, both = (run.run(tokens)[0][value] for tokens in (torch.zeros_like(a), a, b, a + b))
    return float((both - first - second + zero).norm()) < _AFFINE * float(both.norm())


def smoothest(problem: TokenProblem, m: Tensor, free: Tensor, which: Tensor, spectrum: Spectrum) -> Tensor:
    """Return coordinates whose open part makes the likeliest clip, for the tokens of `which`; others stay."""
    if not len(free):
        return m
    shape = problem.embedding.grid.clip_shape
    transform = CosineTransform.of(shape, problem.rows)
    weight = 1.0 / spectrum.variance(shape)
    start = torch.where(which[:, None], m - (m @ free.T) @ free, m)
    nothing = problem.clip(torch.zeros_like(m))

    def gradient(clip: Tensor) -> Tensor:
        rough = transform.clips(weight[None] * transform.modes(clip[None]))[0]
        grid = problem.embedding.grid
        return ((rough.reshape(-1)[grid.pixel] / grid.scale) @ problem.rows.T @ free.T) * which[:, None]

    def moved(c: Tensor) -> Tensor:
        return problem.clip((c * which[:, None]) @ free) - nothing

    right = -gradient(problem.clip(start) - 0.5)
    found, _ = conjugate_gradients(lambda c: gradient(moved(c)), right, _PRIOR_STEPS, _PRIOR_ENOUGH)
    return start + (found * which[:, None]) @ free


def likely_directions(problem: TokenProblem, free: Tensor, spectrum: Spectrum) -> Float[Tensor, "direction coordinate"]:
    """Return directions that span those given, as long as the prior expects a patch to vary along them.

    Steps that are damped alike in all of them go first where patches are likely to differ.
    """
    if not len(free):
        return free
    grid = problem.embedding.grid
    transform = CosineTransform.of(grid.clip_shape, problem.rows)
    deviation = spectrum.variance(grid.clip_shape).sqrt()
    generator = torch.Generator().manual_seed(0)
    count = math.ceil(_DRAWN * len(free) / len(problem.rows))
    drawn = [
        transform.clips(deviation[None] * torch.randn(1, *grid.clip_shape, generator=generator, dtype=torch.float64))[0]
        for _ in range(count)
    ]
    patches = torch.cat([clip.reshape(-1)[grid.pixel] * grid.scale for clip in drawn])
    moves = patches @ problem.rows.T @ free.T
    s, v = torch.linalg.svd(moves / len(moves) ** 0.5, full_matrices=False)[1:]
    return (s.clamp(min=_UNLIKELY * float(s[0]))[:, None] * v) @ free
