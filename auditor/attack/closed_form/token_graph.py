"""A video transformer's first block as a function of its tokens, with what other tokens give held where wanted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from auditor.attack.closed_form.patch_grid import PatchGrid, patch_grid
from auditor.attack.closed_form.pixel_map import pixel_map
from auditor.attack.recursion.call_graph import Call, CallGraph, GraphValue
from auditor.attack.recursion.weight_system import from_columns
from auditor.records import View

# Products in which one token reads another: only what stands first is its own.
_MIXES = {"matmul", "bmm", "baddbmm", "einsum", "scaled_dot_product_attention", "multi_head_attention_forward"}
# What a token changes, it changes by more than this share.
_MOVES = 1e-9


@dataclass(frozen=True)
class PatchEmbedding:
    """The call that turns patches into tokens, its weight as (feature, pixel of a patch), and where patches lie."""

    call: Call
    weight: str
    matrix: Float[Tensor, "feature pixel"]
    grid: PatchGrid

    @property
    def tokens(self) -> int:
        """Number of patches."""
        return len(self.grid.pixel)


def patch_embedding(view: View, graph: CallGraph) -> PatchEmbedding | None:
    """Return the first convolution or Linear that cuts the clip into patches; None where there is none."""
    shape, device = view.knowledge.clip_shape, next(iter(view.update.gradients.values())).device
    for call in graph.calls:
        if call.weight is None or call.weight not in view.update.gradients:
            continue
        pixels = pixel_map(view.target.model, call.weight, shape, device)
        if pixels is None:
            return None
        settings = graph.operation(call).convolution
        weight = view.target.parameters[call.weight].detach().double()
        kernel = None if settings is None else tuple(weight.shape[2:])
        if settings is not None and (tuple(settings["stride"]) != kernel or any(settings["padding"])):
            return None
        grid = patch_grid(pixels, kernel)
        matrix = weight.flatten(1)
        if grid is not None and matrix.shape[1] != len(grid.scale):
            matrix = matrix.T
        if grid is None or matrix.shape[1] != len(grid.scale):
            return None
        return PatchEmbedding(call, call.weight, matrix, grid)
    return None


class TokenGraph:
    """Runs the calls from the patch embedding's output to a few values that Linear layers read.

    Calls of `instead`, by place, are run in place of the graph's.

    Attributes
    ----------
    rows
        By value, which of its rows belong to which token: `(token,)`.
    """

    def __init__(
        self,
        graph: CallGraph,
        embedding: PatchEmbedding,
        bias: Tensor,
        wanted: Sequence[int],
        instead: Mapping[int, Call] | None = None,
    ) -> None:
        self.graph, self._embedding, self.bias = graph, embedding, bias
        self._operation = graph.operation(embedding.call)
        (self._start,) = embedding.call.outputs
        self._wanted = tuple(wanted)
        self._alone = dict(instead or {})
        self._replaced: dict[int, Call] = dict(self._alone)
        self._places = self._needed()
        for place in self._places:
            call = graph.calls[place]
            if call.name in _MIXES and call.weight is None and _count(call) > 1:
                self._replaced[place] = _with_context(call, place)
        self.rows: dict[int, Tensor] = {}

    def _needed(self) -> list[int]:
        made: set[int] = set()
        left = [self.graph.producer[n] for n in self._wanted]
        while left:
            place = left.pop()
            if place not in made:
                made.add(place)
                left += [self.graph.producer[n] for n in self.graph.calls[place].inputs if n not in (0, self._start)]
        return sorted(made)

    def run(
        self, tokens: Float[Tensor, "token feature"], held: Mapping[int, Tensor] | None = None
    ) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
        """Return wanted values as (row, feature), and the context: what tokens read of each other.

        With `held` they read that.
        """
        values = {0: tokens.new_zeros(self.graph.shapes[0]), self._start: self._placed(tokens + self.bias.to(tokens))}
        context: dict[int, Tensor] = {}
        with sdpa_kernel(SDPBackend.MATH), torch.no_grad():
            for place in self._places:
                call = self._replaced.get(place, self.graph.calls[place])
                for n in call.inputs:
                    if n < 0:
                        source = values[_source(self.graph.calls[place], -n - 1 - 16 * place)]
                        context[n] = source
                        values[n] = source if held is None else held[n]
                values.update(zip(call.outputs, call(values), strict=True))
        return {n: values[n].reshape(-1, values[n].shape[-1]) for n in self._wanted}, context

    def values(self, tokens: Float[Tensor, "token feature"]) -> dict[int, Tensor]:
        """Return wanted values as `run` does, with tokens reading what the others are: it can be differentiated."""
        values = {0: tokens.new_zeros(self.graph.shapes[0]), self._start: self._placed(tokens + self.bias.to(tokens))}
        with sdpa_kernel(SDPBackend.MATH):
            for place in self._places:
                call = self._alone.get(place, self.graph.calls[place])
                values.update(zip(call.outputs, call(values), strict=True))
        return {n: values[n].reshape(-1, values[n].shape[-1]) for n in self._wanted}

    def _placed(self, tokens: Tensor) -> Tensor:
        return from_columns(tokens, self._operation, self._operation.output)

    def random_tokens(self, seed: int) -> Float[Tensor, "token feature"]:
        """Return standard normal tokens."""
        shape = (self._embedding.tokens, self._embedding.matrix.shape[0])
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    def find_rows(self) -> bool:
        """Learn which rows belong to which token; False where no value has one row for each token.

        Half of the tokens are moved at a time, those whose number has a one in some binary digit, then the others: the
        rows that move spell the token's number, and a row of several tokens moves both times for some digit.
        """
        count = self._embedding.tokens
        base, other = self.random_tokens(0), self.random_tokens(1)
        before, context = self.run(base)
        number = torch.arange(count)
        spelled = {n: torch.zeros(len(v), dtype=torch.long) for n, v in before.items()}
        single = {n: torch.ones(len(v), dtype=torch.bool) for n, v in before.items()}
        for digit in range(max(1, (count - 1).bit_length())):
            ones = (number >> digit & 1).bool()
            moved = [self.run(torch.where(w[:, None], other, base), context)[0] for w in (ones, ~ones)]
            for n, rows in before.items():
                one, zero = (((m[n] - rows).norm(dim=1) > _MOVES * rows.norm(dim=1)) for m in moved)
                spelled[n] += one.long() << digit
                single[n] &= one ^ zero
        self.rows = {}
        for n, names in spelled.items():
            rows = single[n].nonzero().flatten()
            if torch.equal(names[rows].sort().values, number):
                self.rows[n] = rows[names[rows].argsort()]
        return bool(self.rows)


def _count(call: Call) -> int:
    return sum(isinstance(a, GraphValue) for a in call.args)


def _source(call: Call, position: int) -> int:
    value = call.args[position]
    assert isinstance(value, GraphValue)
    return value.number


def _with_context(call: Call, place: int) -> Call:
    """Return the call reading numbers of their own (below zero) for all it reads but the first."""
    first = next(i for i, a in enumerate(call.args) if isinstance(a, GraphValue))
    args: list[Any] = [
        GraphValue(-(1 + i + 16 * place)) if i > first and isinstance(a, GraphValue) else a
        for i, a in enumerate(call.args)
    ]
    inputs = tuple(dict.fromkeys(a.number for a in args if isinstance(a, GraphValue)))
    return replace(call, args=tuple(args), inputs=inputs)
