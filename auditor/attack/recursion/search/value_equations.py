"""The values that a descent found, as equations in the clip."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from auditor.attack.matching.statistical_linearisation import SmoothRectifiers
from auditor.attack.recursion.graph_descent import GraphDescent
from auditor.attack.recursion.search.smooth_pools import SmoothPools
from auditor.attack.recursion.weight_system import columns
from auditor.records import Clips


@dataclass(frozen=True)
class ValueEquations:
    """The values that a descent found, as equations in the clip.

    Of a unit that is open its value is known, of a closed one that it is not positive. What reads a known value reads
    it as it is known, so that only what lies between the clip and the lowest known values is run.

    Attributes
    ----------
    width
        Smoothing of rectifiers and of max-pools on the way, relative to the admitted error.
    """

    found: GraphDescent
    width: float

    def __call__(self, clips: Clips, error: float) -> Sequence[Tensor]:
        """Return residuals in units of the error that is admitted, relative to the values' own size."""
        graph, partial = self.found.graph, self.found.partial
        made, lowest, compared = [], self._lowest, self._compared
        wanted = [*lowest, *([] if partial is None else [partial.value])]
        with _smooth(self.width * error):
            for call, values in graph.forward(clips, wanted, lowest):
                for n in call.outputs:
                    if n in lowest:
                        off = values[compared[n]] - lowest[n].to(clips)
                        off = torch.where(self.found.open[n], off, off.clamp(min=0.0))
                        made.append(off / (error * _size(lowest[n])))
                    if partial is not None and n == partial.value:
                        made.append(self._projected(values[n], error))
        return made

    def misfit(self, clips: Clips) -> float:
        """Return the mean over the known values of their squared error, relative to them."""
        exact = ValueEquations(replace(self.found, partial=None) if self._lowest else self.found, 0.0)
        with torch.no_grad():
            groups = [float(r.double().square().mean()) for r in exact(clips, 1.0)]
        return sum(groups) / len(groups)

    def _projected(self, value: Tensor, error: float) -> Tensor:
        """Return residuals of the partial equations.

        They rest on masks of which a few may be wrong, and nothing shows how many. So what they miss altogether counts
        as their own error too: where other equations come to be fulfilled and these do not, these weigh less.
        """
        assert self.found.partial is not None
        made = self.found.partial.solved
        off = made.projections.to(value) @ columns(value, made.readings[0].operation) - made.known.to(value)
        own = made.noise.to(value).square()[:, None] + off.detach().square().mean()
        return off / (own + (error * _size(made.known)) ** 2).sqrt()

    @cached_property
    def _lowest(self) -> Mapping[int, Tensor]:
        """The known values that the clip reaches without passing another."""
        found, live, lowest = self.found, {0}, {}
        for call in found.graph.calls:
            if live.intersection(call.inputs):
                lowest.update({n: found.values[n] for n in call.outputs if n in found.values})
                live.update(n for n in call.outputs if n not in found.values)
        return {n: v for n, v in lowest.items() if n in found.open}

    @cached_property
    def _compared(self) -> Mapping[int, int]:
        """What is compared with a known value: what a rectifier is given, else the value itself."""
        graph = self.found.graph
        makers = {n: graph.calls[graph.producer[n]] for n in self._lowest}
        return {n: call.inputs[0] if graph.kind(call) == "rectifies" else n for n, call in makers.items()}


@contextmanager
def _smooth(width: float) -> Iterator[None]:
    if not width > 0.0:
        yield
        return
    with SmoothRectifiers(width), SmoothPools(width):
        yield


def _size(value: Tensor) -> float:
    return max(float(value.double().square().mean().sqrt()), 1e-30)
