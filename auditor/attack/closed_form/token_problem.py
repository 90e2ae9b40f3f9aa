"""What a transformer's weight gradients tell of its tokens: a row space of patches, and spans of activations."""

import math
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from auditor.attack.closed_form.position_gradients import could_be_positions, position_gradients
from auditor.attack.closed_form.token_graph import PatchEmbedding, TokenGraph, patch_embedding
from auditor.attack.closed_form.token_units import sliced
from auditor.attack.recursion.call_graph import Call, CallGraph, trace_client
from auditor.records import Clip, View

# A singular value is of the span where it clears the rounding of the gradient, seen in the tail, by this.
_CLEARS, _ROUNDING = 4.0, 3e-8
# Most values that are looked at: divided attention in space and time has seven up to the hidden units.
_SPANS = 8
# Hidden units that are used, equations of a span that are asked, in tokens: more cost time and tell nothing new.
_UNITS, _CHECKS, _SPARE = 3.0, 1.5, 32
# Spans that are sharper than this count alike.
_SHARP = 1e-5
_HIDDEN = 10**9
# Learned positions have gradients that lie among those of tokens, up to rounding.
_INSIDE = 1e-3
# Share of a span's directions that may be hidden by rounding.
_LOST = 0.25
# Spans of full rank besides the first from which on its own distance counts as this share: at the true tokens rounding
# alone leaves up to 4e-3 there and below 5e-4 behind it, at wrong ones more than 1e-2 remains.
_OTHERS, _FIRST = 2, 0.1
# Singular values of exact rows below this share are rounding.
_EXACT = 1e-11


@dataclass(frozen=True)
class Span:
    """Rows [activation, 1] that one Linear reads lie in a space that its weight's gradient tells.

    Attributes
    ----------
    value
        The number of the value in the graph.
    basis
        Orthonormal, `(rank, feature + 1)`; without the last column where no bias was sent.
    checks
        Orthonormal directions outside the span, `(check, feature + 1)`, drawn at random where there are more than
        enough.
    noise
        Rounding of one entry of the gradient over the singular value of each direction.
    lost
        Number of further directions of the true span that rounding hides: they are read off the rows themselves.
    weight
        What distances are multiplied with, in (0, 1]: spans that rounding blurs more count less.
    """

    value: int
    basis: Float[Tensor, "rank feature"]
    bias: bool
    checks: Float[Tensor, "check feature"]
    noise: Float[Tensor, " rank"]
    lost: int = 0
    weight: float = 1.0

    def distance(
        self, rows: Float[Tensor, "token feature"], hidden: Float[Tensor, "lost check"] | None = None
    ) -> Float[Tensor, "token check"]:
        """Return how far rows are from the span, relative to their own norms; of all directions as the checks tell.

        What lies along the hidden directions does not count.
        """
        rows = self._with_one(rows)
        scale = self.weight * math.sqrt(self._outside / len(self.checks))
        off = scale * (rows @ self.checks.T.to(rows)) / rows.norm(dim=1, keepdim=True)
        return off if hidden is None else off - (off @ hidden.T) @ hidden

    def hidden(self, rows: Float[Tensor, "token feature"]) -> Float[Tensor, "lost check"]:
        """Return the directions outside the gradient's span that most of these rows have in common."""
        return torch.linalg.svd(self.distance(rows), full_matrices=False)[2][: self.lost]

    def expected(self, rows: Float[Tensor, "token feature"]) -> float:
        """Return the distance that the gradient's rounding leaves rows of the span, relative to their own norms.

        A row is a combination of the gradient's rows, whose coefficient along direction k has to undo the singular
        value of k; the rounding comes along. Of all tokens, in the mean.
        """
        rows = self._with_one(rows)
        off = ((rows @ self.basis.T) * self.noise).norm(dim=1) / rows.norm(dim=1)
        return math.sqrt(self._outside) * float(off.square().mean().sqrt())

    @property
    def _outside(self) -> int:
        return self.basis.shape[1] - len(self.basis)

    def _with_one(self, rows: Tensor) -> Tensor:
        return torch.cat([rows, torch.ones_like(rows[:, :1])], dim=1) if self.bias else rows


@dataclass(frozen=True)
class TokenProblem:
    """Tokens x_t = m_t A in the row space A of the embedding's gradient, and all that is known of the m_t.

    Of several clips A holds the patches of all; the m_t are one clip's.

    Attributes
    ----------
    rows
        A, `(coordinate, pixel)`, orthonormal: as many coordinates as the clips have tokens.
    moves
        What A becomes behind the embedding, `(coordinate, feature)`.
    level
        w with m_t . w = 1, from the embedding's bias; None where that was not sent.
    positions
        Q with m_t Q = e_t, from the gradient of learned positions; None where those were not sent or are not needed.
    first
        Number of the value that the first Linear layer reads: behind a norm, as a rule.
    left_out
        By number of a value, the rank that its span shows and that it ought to have: such spans are not used.
    """

    embedding: PatchEmbedding
    graph: TokenGraph
    rows: Float[Tensor, "coordinate pixel"]
    moves: Float[Tensor, "coordinate feature"]
    level: Float[Tensor, " coordinate"] | None
    spans: tuple[Span, ...]
    first: int
    positions: Float[Tensor, "coordinate token"] | None = None
    left_out: dict[int, tuple[int, int]] = field(default_factory=dict)

    def residuals(
        self, m: Float[Tensor, "token coordinate"], held: dict[int, Tensor]
    ) -> Float[Tensor, "token equation"]:
        """Return what is violated, token by token, where tokens read of each other what is held."""
        values, _ = self.graph.run(m @ self.moves.to(m), held)
        made = [
            span.distance(values[span.value][self.graph.rows[span.value]], held.get(_place(span)))
            for span in self.spans
        ]
        if self.level is not None:
            made.append((m @ self.level.to(m) - 1.0)[:, None])
        return torch.cat(made, dim=1)

    def distance(self, m: Float[Tensor, "token coordinate"]) -> Float[Tensor, " token"]:
        """Return every token's largest distance from the spans of full rank.

        All count alike, but for the first, which rounding blurs most, where two others tell as well.
        """
        values, _ = self.graph.run(m @ self.moves)
        off = [s.distance(values[s.value][self.graph.rows[s.value]]).norm(dim=1) / s.weight for s in self._full]
        if len(off) > _OTHERS and self._full[0].value == self.first:
            off[0] = off[0] * _FIRST
        return torch.stack(off).amax(0) if off else torch.full((len(m),), math.inf, dtype=m.dtype)

    def violated(
        self, m: Float[Tensor, "token coordinate"], hidden: dict[int, Tensor]
    ) -> Float[Tensor, "token equation"]:
        """Return what `residuals` does where tokens read of each other what they are; it can be differentiated."""
        values = self.graph.values(m @ self.moves.to(m))
        made = [s.distance(values[s.value][self.graph.rows[s.value]], hidden.get(_place(s))) for s in self.spans]
        return torch.cat(made, dim=1)

    def behind_first(self) -> "TokenProblem":
        """Return the problem without the first norm's span, where another tells.

        That span is blind to what it leaves open, and rounding blurs it most.
        """
        return replace(self, spans=tuple(s for s in self.spans if s.value != self.first) or self.spans, level=None)

    @property
    def _full(self) -> list[Span]:
        return [span for span in self.spans if not span.lost]

    @property
    def certifies(self) -> bool:
        """Tell whether a span of full rank lies behind the first norm, whose own span is blind to some directions."""
        return any(span.value != self.spans[0].value for span in self._full) or len(self._full) > 1

    def apart(self) -> float:
        """Return how far the two tokens lie apart that positions tell apart least, relative: 0 where nothing does.

        All tokens are given the same patch, so that rows of the first span differ by their positions alone.
        """
        span = self.spans[0]
        patch = self.graph.random_tokens(2)[:1].expand(self.embedding.tokens, -1)
        rows = self.graph.run(patch)[0][span.value][self.graph.rows[span.value]]
        return float(torch.pdist(rows).min() / rows.norm(dim=1).mean()) if len(rows) > 1 else math.inf

    def told(self) -> str:
        """Return in a clause which spans are used, with the ranks that they show and ought to have."""
        wanted = {s.value: (len(s.basis), len(s.basis) + s.lost) for s in self.spans} | self.left_out
        used = ", ".join(f"{wanted[s.value][0]} of {wanted[s.value][1]}" for s in self.spans)
        short = ", ".join(f"{rank} of {all_}" for rank, all_ in self.left_out.values())
        clips = len(self.rows) // self.embedding.tokens
        of = f" of each of {clips} clips" if clips > 1 else ""
        told = f"{self.embedding.tokens} tokens{of}; spans used, by rank: {used}"
        return told + (f"; left out: {short}" if short else "")

    def weighted(self, m: Float[Tensor, "token coordinate"]) -> "TokenProblem":
        """Return the problem with spans weighted by what rounding is expected to blur of them, at these tokens."""
        values, _ = self.graph.run(m @ self.moves)
        blur = [span.expected(values[span.value][self.graph.rows[span.value]]) for span in self.spans]
        least = min(blur)
        spans = tuple(
            replace(s, weight=max(least, _SHARP) / max(b, _SHARP)) for s, b in zip(self.spans, blur, strict=True)
        )
        return replace(self, spans=spans)

    def context(self, m: Float[Tensor, "token coordinate"]) -> dict[int, Tensor]:
        """Return what tokens read of each other, and what of the spans they tell together."""
        values, context = self.graph.run(m @ self.moves.to(m))
        told = {_place(s): s.hidden(values[s.value][self.graph.rows[s.value]]) for s in self.spans if s.lost}
        return context | told

    def clip(self, m: Float[Tensor, "token coordinate"]) -> Clip:
        """Return the clip that the tokens are of, in float64 and not cut to [0, 1]."""
        grid = self.embedding.grid
        values = (m @ self.rows - grid.centre) / grid.scale
        flat = values.new_zeros(math.prod(grid.clip_shape))
        flat[grid.pixel.reshape(-1)] = values.reshape(-1)
        return flat.reshape(grid.clip_shape) + 0.5


def _place(span: Span) -> int:
    """Return a number that stands for the span's hidden directions and for no value of a graph."""
    return _HIDDEN + span.value


def pose(view: View) -> TokenProblem | str:
    """Set the problem up from the update, or say in one clause what is missing."""
    alone = replace(view, update=replace(view.update, batch=1))
    graph = trace_client(alone)
    if graph is None:
        return "the model's calls do not repeat its answer"
    embedding = patch_embedding(alone, graph)
    if embedding is None:
        return "no patch embedding of pixels was sent"
    count, features = view.update.batch * embedding.tokens, embedding.matrix.shape[0]
    if count >= features:
        return full_spans(count, features)
    gradient = view.update.gradients[embedding.weight].double().flatten(1)
    gradient = gradient if gradient.shape == embedding.matrix.shape else gradient.T
    u, s, v = torch.linalg.svd(gradient, full_matrices=False)
    rank = _rank(s)
    if rank < count - count // 8 or len(s) <= count:
        return f"the patch embedding's gradient has rank {rank}, not the {count} of its tokens"
    bias = _bias(view, embedding.weight)
    level = None if bias is None else (u[:, :count].T @ bias[1]) / s[:count]
    offset = torch.zeros(features, dtype=torch.float64) if bias is None else bias[0]
    readers = _readers(view, graph, embedding)
    full = TokenGraph(graph, embedding, offset, list(readers))
    if not readers or not full.find_rows():
        return "tokens are mixed before the first Linear layer"
    ranks = _generic_ranks(full, view.update.batch)
    found: list[Span] = []
    short: dict[int, tuple[int, int]] = {}
    calls: dict[int, Call] = {}
    for value, pairs in readers.items():
        width = graph.shapes[value][-1]
        units, cut = None, None
        if value in full.rows and width > max(features, _UNITS * count):
            units, cut = sliced(graph, value, math.ceil(_UNITS * count))
        span = _span(value, pairs, ranks[value], units)
        if isinstance(span, int):
            short[value] = (span, ranks[value])
        elif value in full.rows:
            found.append(span)
            calls.update(cut or {})
    if not found:
        return "no Linear layer behind the patch embedding has a span of its tokens' rank: " + _told(short)
    run = TokenGraph(graph, embedding, offset, [span.value for span in found], calls)
    run.rows = {span.value: full.rows[span.value] for span in found}
    a = v[:count]
    positions = None if view.update.batch == 1 else _positions(view, embedding, u[:, :count], s[:count])
    return TokenProblem(
        embedding, run, a, a @ embedding.matrix.T, level, tuple(found), next(iter(readers)), positions, short
    )


def _positions(view: View, embedding: PatchEmbedding, u: Tensor, s: Tensor) -> Tensor | None:
    """Return Q of learned positions: clips add up their tokens' gradients there, dP = (U S M^-1 J)', J stacked ones."""
    features = embedding.matrix.shape[0]
    bias = _bias(view, embedding.weight)
    sent = {n: g for n, g in view.update.gradients.items() if n != embedding.weight and could_be_positions(g)}
    for found in position_gradients(sent, embedding.tokens, features, None if bias is None else bias[1]):
        off = found.rows.T - u @ (u.T @ found.rows.T)
        each = len(found.shares) == 1 and len(found.rows) == embedding.tokens
        if each and float(off.norm()) < _INSIDE * float(found.rows.norm()):
            return (u.T @ found.rows.T) / s[:, None]
    return None


def full_spans(tokens: int, features: int) -> str:
    """Say what is missing where spans hold every direction."""
    return (
        f"{tokens} tokens stand against {features} features, so the span of what a Linear layer reads is everything "
        f"and leaves no equation; it would take fewer than {features} tokens (a smaller clip, larger patches)"
    )


def _told(short: dict[int, tuple[int, int]]) -> str:
    return ", ".join(f"{rank} of {wanted}" for rank, wanted in short.values())


def _floor(gradient: Tensor) -> float:
    """Return the size of a gradient's rounding, so that stacked gradients count alike."""
    return _tail(torch.linalg.svdvals(gradient))


def _tail(s: Tensor) -> float:
    return max(float(s[-max(8, len(s) // 4) :].median()), 1e-12 * float(s[0]), 1e-300)


def _rank(s: Tensor) -> int:
    return int((s > max(_CLEARS * _tail(s), float(s[0]) * _ROUNDING)).sum())


def _bias(view: View, weight: str) -> tuple[Tensor, Tensor] | None:
    """Return a weight's bias and its gradient, where the layer has one and it was sent."""
    owner = next(layer for layer in view.target.layers if weight in layer.parameters)
    for name in owner.parameters:
        value = view.target.parameters[name]
        if name != weight and value.dim() == 1 and name in view.update.gradients:
            return value.detach().double(), view.update.gradients[name].double()
    return None


def _readers(view: View, graph: CallGraph, embedding: PatchEmbedding) -> dict[int, list[tuple[Tensor, Tensor | None]]]:
    """Return, by number, the values that Linear layers read up to the first hidden units, with gradients of each."""
    readers: dict[int, list[tuple[Tensor, Tensor | None]]] = {}
    for call in graph.calls[graph.calls.index(embedding.call) + 1 :]:
        sent = _sent(view, graph, call)
        if sent is None:
            continue
        if call.inputs[0] not in readers:
            widest = max((graph.shapes[n][-1] for n in readers), default=0)
            if len(readers) == _SPANS or widest > embedding.matrix.shape[0]:
                break
        readers.setdefault(call.inputs[0], []).append(sent)
    return readers


def _generic_ranks(graph: TokenGraph, clips: int) -> dict[int, int]:
    """Return the rank that rows [activation, 1] have at random tokens of so many clips, by the value's number."""
    drawn = [graph.run(graph.random_tokens(1 + clip))[0] for clip in range(clips)]
    ranks = {}
    for n in drawn[0]:
        rows = torch.cat([values[n] for values in drawn])
        s = torch.linalg.svdvals(torch.cat([rows, torch.ones_like(rows[:, :1])], 1))
        ranks[n] = int((s > _EXACT * s[0]).sum())
    return ranks


def _span(value: int, pairs: list[tuple[Tensor, Tensor | None]], wanted: int, units: Tensor | None) -> Span | int:
    """Return a span of the wanted rank, of some units where they are given, or the rank that the gradients show."""
    # Keys often have no bias; queries and values tell the span with its last column all the same.
    biased = any(db is not None for _, db in pairs)
    parts = []
    for dw, db in pairs:
        if db is None and biased:
            continue
        part = dw if units is None else dw[:, units]
        part = part if db is None else torch.cat([part, db[:, None]], 1)
        parts.append(part if len(pairs) == 1 else part / _floor(part))
    _, s, v = torch.linalg.svd(torch.cat(parts), full_matrices=True)
    rank = min(_rank(s), wanted)
    if rank < (1.0 - _LOST) * wanted or wanted >= v.shape[1]:
        return rank
    outside = v[rank:]
    count = math.ceil(_CHECKS * wanted) + _SPARE
    if len(outside) > count:
        generator = torch.Generator().manual_seed(0)
        drawn = torch.randn(len(outside), count, generator=generator, dtype=torch.float64)
        outside = torch.linalg.qr(drawn).Q.T @ outside
    rounding = _tail(s) / math.sqrt(sum(len(part) for part in parts))
    return Span(value, v[:rank], biased, outside, rounding / s[:rank], wanted - rank)


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
