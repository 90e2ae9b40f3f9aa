"""What is known further up, as equations and bounds that are linear in a value which is not."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from auditor.attack.recursion.call_graph import Call, CallGraph

# Two numbers that ought to be the same are, in float64.
_SAME = 1e-12


@dataclass(frozen=True)
class Bound:
    """What is known of a rectifier's input.

    Attributes
    ----------
    input
        Its number in the graph.
    value, open
        What the rectifier makes, and which of its units are open: their input is the value, that of others at most 0.
    at_most
        Whether something unknown that is nowhere negative adds to it: then the value bounds the input from above.
    """

    input: int
    value: Tensor
    open: Tensor
    at_most: bool

    def missed(self, made: Tensor) -> Tensor:
        """Return how far an input is from what is known of it; zero where a bound holds."""
        over = made - torch.where(self.open, self.value, torch.zeros_like(self.value)).to(made)
        return over.clamp(min=0.0) if self.at_most else torch.where(self.open, over, over.clamp(min=0.0))

    def held(self, missed: Tensor) -> Tensor:
        """Return which units hold the input where it is."""
        return missed > 0.0 if self.at_most else self.open | (missed > 0.0)


class KnownAbove:
    """Inputs of rectifiers whose outputs are known, as affine functions of one unknown value that they depend on.

    A known value that is met on the way is taken as known. Where an unknown output of another rectifier is added, its
    sign still bounds the sum: the shortcut of a residual block, of which only the branch is being solved.
    """

    def __init__(
        self,
        graph: CallGraph,
        value: int,
        values: Mapping[int, Tensor],
        masks: Mapping[int, Tensor],
        kind: Callable[[Call], str],
    ) -> None:
        self._graph, self._value, self._kind = graph, value, kind
        self._constants: dict[int, Tensor | None] = {0: None} | {n: v for n, v in values.items() if n != value}
        self._calls: list[Call] = []
        self.bounds: list[Bound] = []
        depends, below = {value}, set[int]()
        for call in graph.calls:
            mine = depends.intersection(call.inputs)
            if not mine:
                continue
            if kind(call) == "rectifies":
                out = call.outputs[0]
                if out in values and out in masks:
                    self.bounds.append(Bound(call.inputs[0], values[out], masks[out], call.inputs[0] in below))
                continue
            unknown = [n for n in call.inputs if n not in depends and self._constant(n) is None]
            if kind(call) in ("picks", "mixes") or below.intersection(mine):
                continue
            if unknown and not (len(unknown) == 1 and self._adds(call, unknown[0])):
                continue
            below.update(call.outputs if unknown else ())
            depends.update(call.outputs)
            self._calls.append(call)

    def __call__(self, value: Tensor) -> list[Tensor]:
        """Return the inputs that `bounds` speak of, in their order."""
        made = {self._value: value}
        for call in self._calls:
            read = {n: made[n] if n in made else self._filled(n).to(value) for n in call.inputs}
            # Copies: a sum may be made in place.
            made.update(zip(call.outputs, call({n: v.clone() for n, v in read.items()}), strict=True))
        return [made[bound.input] for bound in self.bounds]

    def _filled(self, number: int) -> Tensor:
        known = self._constants[number]
        return torch.zeros(self._graph.shapes[number]) if known is None else known

    def _constant(self, number: int) -> Tensor | None:
        """Return a value that follows from known ones alone."""
        if number not in self._constants:
            call = self._graph.calls[self._graph.producer[number]]
            read = {n: self._constant(n) for n in call.inputs}
            known = {n: v.clone() for n, v in read.items() if v is not None}
            if len(known) < len(read):
                self._constants.update(dict.fromkeys(call.outputs))
            else:
                with torch.no_grad():
                    self._constants.update(zip(call.outputs, call(known), strict=True))
        return self._constants[number]

    def _adds(self, call: Call, unknown: int) -> bool:
        """Tell whether a call adds an unknown value that is nowhere negative to what it is given."""
        source = self._graph.calls[self._graph.producer[unknown]] if unknown in self._graph.producer else None
        if source is None or self._kind(source) != "rectifies" or len(call.outputs) != 1:
            return False
        generator = torch.Generator().manual_seed(0)
        drawn = {
            n: torch.randn(self._graph.shapes[n], generator=generator, dtype=torch.float64).abs() for n in call.inputs
        }
        total = sum((v for v in drawn.values()), torch.zeros(()))
        with torch.no_grad():
            made = call({n: v.clone() for n, v in drawn.items()})[0]
        return made.shape == total.shape and float((made - total).abs().max()) < _SAME * float(total.abs().max())
