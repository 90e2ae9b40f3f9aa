"""All tokens of a video transformer from the spans that its weight gradients hold, positions fixed or not."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from auditor.attack.base import Attack, skipped
from auditor.attack.certificate import residual, solved
from auditor.attack.closed_form.token_graph import PatchEmbedding, TokenGraph, patch_embedding
from auditor.attack.closed_form.token_refinement import CERTAIN, Refinement, refine
from auditor.attack.cost import AttackCost
from auditor.attack.recursion.call_graph import Call, CallGraph, trace_client
from auditor.attack.spectrum import Spectrum
from auditor.modes import CosineTransform
from auditor.records import Budget, Clip, Clock, Label, Outcome, Reconstruction, Skipped, View
from auditor.results.model import Determinacy
from auditor.solvers.conjugate_gradients import conjugate_gradients

# A singular value is of the span where it clears the rounding of the gradient, seen in the tail, by this.
_CLEARS, _ROUNDING = 4.0, 3e-8
# Directions of the linear system below this share are left to the nonlinear part.
_LINEAR = 1e-3
# Spans of the first block: what its norms, its attention and its hidden units give.
_SPANS = 4
_AFFINE = 1e-9
_PRIOR_STEPS, _PRIOR_ENOUGH = 200, 1e-4
# Steps of the refinement that its cost is planned by: successes of the benchmarks took 60 to 100.
_TYPICAL_STEPS = 80


@dataclass(frozen=True)
class Span:
    """Rows [activation, 1] that one Linear reads lie in a space that its weight's gradient tells.

    Attributes
    ----------
    value
        The number of the value in the graph.
    basis
        Orthonormal, `(rank, feature + 1)`; without the last column where no bias was sent.
    """

    value: int
    basis: Float[Tensor, "rank feature"]
    bias: bool

    def distance(self, rows: Float[Tensor, "token feature"]) -> Float[Tensor, "token feature"]:
        """Return how far rows are from the span, relative to their own norms."""
        if self.bias:
            rows = torch.cat([rows, torch.ones_like(rows[:, :1])], dim=1)
        return (rows - (rows @ self.basis.T) @ self.basis) / rows.norm(dim=1, keepdim=True)


@dataclass(frozen=True)
class TokenProblem:
    """Tokens x_t = m_t A in the row space A of the embedding's gradient, and all that is known of the m_t.

    Attributes
    ----------
    rows
        A, `(token, pixel)`, orthonormal.
    level
        w with m_t . w = 1, from the embedding's bias; None where that was not sent.
    """

    embedding: PatchEmbedding
    graph: TokenGraph
    rows: Float[Tensor, "token pixel"]
    level: Float[Tensor, " token"] | None
    spans: tuple[Span, ...]

    def residuals(
        self, m: Float[Tensor, "token coordinate"], held: dict[int, Tensor]
    ) -> Float[Tensor, "token equation"]:
        """Return what is violated, token by token, where tokens read of each other what is held."""
        values, _ = self.graph.run(m @ self.rows @ self.embedding.matrix.T, held)
        made = [span.distance(values[span.value][self.graph.rows[span.value]]) for span in self.spans]
        if self.level is not None:
            made.append((m @ self.level - 1.0)[:, None])
        return torch.cat(made, dim=1)

    def context(self, m: Float[Tensor, "token coordinate"]) -> dict[int, Tensor]:
        """Return what tokens read of each other."""
        return self.graph.run(m @ self.rows @ self.embedding.matrix.T)[1]

    def clip(self, m: Float[Tensor, "token coordinate"]) -> Clip:
        """Return the clip that the tokens are of, in float64 and not cut to [0, 1]."""
        grid = self.embedding.grid
        values = (m @ self.rows - grid.centre) / grid.scale
        flat = values.new_zeros(math.prod(grid.clip_shape))
        flat[grid.pixel.reshape(-1)] = values.reshape(-1)
        return flat.reshape(grid.clip_shape) + 0.5


def pose(view: View) -> TokenProblem | str:
    """Set the problem up from the update, or say in one clause what is missing."""
    graph = trace_client(view)
    if graph is None:
        return "the model's calls do not repeat its answer"
    embedding = patch_embedding(view, graph)
    if embedding is None:
        return "no patch embedding of pixels was sent"
    tokens, features = embedding.tokens, embedding.matrix.shape[0]
    if tokens >= features:
        return f"{tokens} tokens stand against {features} features, so spans of tokens are full"
    gradient = view.update.gradients[embedding.weight].double().flatten(1)
    gradient = gradient if gradient.shape == embedding.matrix.shape else gradient.T
    u, s, v = torch.linalg.svd(gradient, full_matrices=False)
    rank = _rank(s)
    if rank < tokens or len(s) <= tokens:
        return f"the patch embedding's gradient has rank {rank}, not the {tokens} of its tokens"
    bias = _bias(view, embedding.weight)
    level = None if bias is None else (u[:, :tokens].T @ bias[1]) / s[:tokens]
    spans = _spans(view, graph, embedding)
    if not spans:
        return "no Linear layer behind the patch embedding has a span of its tokens' rank"
    offset = torch.zeros(features, dtype=torch.float64) if bias is None else bias[0]
    run = TokenGraph(graph, embedding, offset, [span.value for span in spans])
    if not run.find_rows():
        return "tokens are mixed before the first Linear layer"
    spans = tuple(span for span in spans if span.value in run.rows)
    return TokenProblem(embedding, run, v[:tokens], level, spans)


def _size(view: View) -> tuple[int, int]:
    """Return tokens and features of what reads the clip, from shapes."""
    first = next((x for x in view.target.layers if x.output_shape and (x.convolution or x.kind == "linear")), None)
    if first is None:
        return 0, 0
    if first.convolution is None:
        return first.rows or 1, first.output_shape[-1]
    return math.prod(first.output_shape[2:]), first.output_shape[1]


def _floor(gradient: Tensor) -> float:
    """Return the size of a gradient's rounding, so that stacked gradients count alike."""
    s = torch.linalg.svdvals(gradient)
    return max(float(s[-max(8, len(s) // 4) :].median()), 1e-12 * float(s[0]), 1e-300)


def _rank(s: Tensor) -> int:
    floor = _CLEARS * float(s[-max(8, len(s) // 4) :].median())
    return int((s > max(floor, float(s[0]) * _ROUNDING)).sum())


def _bias(view: View, weight: str) -> tuple[Tensor, Tensor] | None:
    """Return a weight's bias and its gradient, where the layer has one and it was sent."""
    owner = next(layer for layer in view.target.layers if weight in layer.parameters)
    for name in owner.parameters:
        value = view.target.parameters[name]
        if name != weight and value.dim() == 1 and name in view.update.gradients:
            return value.detach().double(), view.update.gradients[name].double()
    return None


def _spans(view: View, graph: CallGraph, embedding: PatchEmbedding) -> tuple[Span, ...]:
    """Return the spans of the first values behind the embedding that Linear layers read, those of full rank."""
    behind = graph.calls[graph.calls.index(embedding.call) + 1 :]
    readers: dict[int, list[tuple[Tensor, Tensor | None]]] = {}
    for call in behind:
        sent = _sent(view, graph, call)
        if sent is not None:
            if call.inputs[0] not in readers and len(readers) == _SPANS:
                break
            readers.setdefault(call.inputs[0], []).append(sent)
    found = []
    for value, pairs in readers.items():
        # Keys often have no bias; queries and values tell the span with its last column all the same.
        with_bias = [torch.cat([dw, db[:, None]], 1) for dw, db in pairs if db is not None]
        biased, parts = bool(with_bias), with_bias or [dw for dw, _ in pairs]
        _, s, v = torch.linalg.svd(torch.cat([part / _floor(part) for part in parts]), full_matrices=False)
        rows = math.prod(graph.shapes[value][:-1])
        if embedding.tokens <= rows < v.shape[1] and _rank(s) >= rows:
            found.append(Span(value, v[:rows], biased))
    return tuple(found)


def _sent(view: View, graph: CallGraph, call: Call) -> tuple[Tensor, Tensor | None] | None:
    """Return the gradients of weight and bias of the Linear that a call is, as (output, input) and (output,)."""
    if call.name == "multi_head_attention_forward":
        parameters = {id(p): n for n, p in view.target.parameters.items()}
        names = [parameters.get(id(a)) for a in call.args if isinstance(a, Tensor)]
        sent = [view.update.gradients[n].double() for n in names[:2] if n is not None and n in view.update.gradients]
        return (sent[0], sent[1]) if len(sent) == 2 and sent[0].dim() == 2 and sent[1].dim() == 1 else None
    if call.weight is None or call.weight not in view.update.gradients:
        return None
    operation = graph.operation(call)
    if operation.convolution is not None:
        return None
    bias = _bias(view, call.weight)
    gradient = operation.oriented(view.update.gradients[call.weight].double())
    matches = bias is not None and len(bias[1]) == len(gradient)
    return gradient, bias[1] if bias is not None and matches else None


def linear_part(problem: TokenProblem, graph: CallGraph) -> tuple[Tensor, Tensor]:
    """Return coordinates m (token, coordinate) as far as a norm's span tells them linearly, and open directions.

    The first Linear reads gamma * C z / s + beta with z = E A' m + c affine in m, C the centring and s the token's own
    deviation. Times s it is linear in (m, s), with one matrix for all tokens: [gamma C z + beta s; s] lies in the span.
    """
    count = problem.embedding.tokens
    norm = _norm(problem, graph)
    if norm is None:
        level = problem.level
        start = torch.zeros(count, count, dtype=torch.float64)
        if level is not None:
            start = start + level / level.square().sum()
        return start, torch.eye(count, dtype=torch.float64)
    span, value, gamma, beta = norm
    run = TokenGraph(graph, problem.embedding, problem.graph.bias, [value])
    assert run.find_rows()
    rows = run.rows[value]
    features = problem.embedding.matrix.shape[0]
    zero = run.run(torch.zeros(count, features, dtype=torch.float64))[0][value][rows]
    columns = [
        run.run((problem.rows[k] @ problem.embedding.matrix.T).expand(count, -1))[0][value][rows][0] - zero[0]
        for k in range(count)
    ]
    moves = torch.stack(columns, dim=1)
    centred = gamma[:, None] * (moves - moves.mean(0))
    offset = gamma * (zero - zero.mean(1, keepdim=True))
    known, right = torch.cat([centred, beta[:, None]], 1), offset
    if span.bias:
        last = torch.zeros(1, count + 1, dtype=torch.float64)
        last[0, -1] = 1.0
        known, right = torch.cat([known, last]), torch.cat([right, torch.zeros(count, 1, dtype=torch.float64)], 1)
    outside = torch.linalg.svd(span.basis, full_matrices=True)[2][len(span.basis) :]
    system = outside @ known
    target = -outside @ right.T
    if problem.level is not None:
        scale = system.norm() / system.shape[1] ** 0.5 / problem.level.norm()
        row = torch.cat([problem.level, torch.zeros(1, dtype=torch.float64)]) * scale
        system = torch.cat([system, row[None]])
        target = torch.cat([target, torch.ones(1, count, dtype=torch.float64) * scale])
    size = system.norm(dim=0)
    # Without shift and bias a token's deviation is in no equation.
    told = size > _AFFINE * size.max()
    system, size = system[:, told], size[told]
    u, s, v = torch.linalg.svd(system / size, full_matrices=False)
    kept = s > _LINEAR * s[0]
    found = (v[kept].T @ ((u[:, kept].T @ target) / s[kept, None])) / size[:, None]
    open_ = (v[~kept].T / size[:, None])[:count]
    free = torch.linalg.qr(open_).Q.T if open_.shape[1] else open_.T
    return found[:count].T, free


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


@dataclass(frozen=True, kw_only=True)
class TokenSpans(Attack):
    """Solve for the tokens that lie in all spans which the first block's gradients hold.

    The embedding's gradient is dE = Delta' X, so every patch is x_t = m_t A with A its row space, as long as there are
    fewer tokens than features. Rows that a Linear reads lie in the row space of its gradient: linear equations behind
    the first norm, and what positions alike leave open of them follows from the attention's output, the second norm
    and the hidden units, whose nonlinearity tells tokens apart (`token_refinement`). No labels, head or deeper blocks
    are used, and neither does a position embedding's gradient matter: it may be a fixed table. Derived for this
    project.
    """

    name: str = "token-spans"
    title: str = "Closed form: tokens in the spans of a transformer's first block"
    source: str = "derived for this project (2026): rows that a Linear reads lie in the row space of its gradient"
    closed_form: bool = True

    def work(self, view: View, layers: Sequence[Determinacy]) -> AttackCost:
        """Count a refinement: every step runs the first block once for each coordinate, and solves for each token."""
        tokens, features = _size(view)
        block, normal = 12.0 * features**2, 7.0 * features * tokens
        each = 0.0 if tokens >= features else tokens**2 * (block + normal)
        return AttackCost(multiplications=_TYPICAL_STEPS * each, gradients=2.0)

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
        return None

    def invert(self, view: View, budget: Budget, seed: int) -> Reconstruction | Skipped:
        """Solve the linear part, fill what is open by the prior, refine token by token."""
        clock = Clock(budget.seconds)
        problem = pose(view)
        if isinstance(problem, str):
            return skipped(self, problem)
        start, free = linear_part(problem, problem.graph.graph)
        made = self._refined(problem, start, free, clock, seed)
        labels: tuple[Label, ...] = view.knowledge.labels or (0,)
        clips = problem.clip(made.coordinates).clamp(0.0, 1.0).float()[None]
        off = float(made.distance.max())
        proof = {
            "update_residual": residual(view, clips, labels),
            "span_residual": off,
            "tokens_certain": float((made.distance < CERTAIN).double().mean()),
            "open_directions": float(len(free)),
        }
        note = f"{problem.embedding.tokens} tokens from {len(problem.spans)} spans, {len(free)} directions first open"
        by = "span_residual" if view.knowledge.labels is None or view.scale is None else "update_residual"
        made_of_it = solved(self.name, clips, labels, proof, seconds=clock.used, seed=seed, note=note, by=by)
        # The update hardly moves with tokens that are nearly right: the spans are the sharper certificate.
        return made_of_it if off < CERTAIN else replace(made_of_it, outcome=Outcome.UNVERIFIED)

    def _refined(self, problem: TokenProblem, start: Tensor, free: Tensor, clock: Clock, seed: int) -> Refinement:
        spectrum = Spectrum()
        everything = torch.ones(len(start), dtype=torch.bool)

        def fill(m: Tensor, which: Tensor) -> Tensor:
            return smoothest(problem, m, free, which, spectrum)

        return refine(problem.residuals, problem.context, fill(start, everything), free, fill, clock, seed)
