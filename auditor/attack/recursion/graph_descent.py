"""From the head downwards through any graph of calls: values, masks and gradients, exactly, as far as they follow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from auditor.attack.recursion.call_graph import Call, CallGraph, trace_client
from auditor.attack.recursion.descent_state import Ended, Partial, Pending, Rectified
from auditor.attack.recursion.grouped_system import solve_value
from auditor.attack.recursion.head_gradient import gradient_at_head
from auditor.attack.recursion.joint_completion import complete_jointly
from auditor.attack.recursion.known_above import KnownAbove
from auditor.attack.recursion.layer_inputs import NO_HEAD
from auditor.attack.recursion.masked_system import Solved, recovered_input, split
from auditor.attack.recursion.masks.corner_peeling import PeeledMasks, peel_corners
from auditor.attack.recursion.masks.masked_reading import MaskedReading
from auditor.records import Clock, RecoveredActivation, RecoveredInput, View

# What of a gradient no value explains: rounding leaves 1e-6, one unit on the wrong side far more. Beyond it, what lies
# above contradicts the gradient.
CONSISTENT = 1e-3
# A gradient that is the same at every position, up to the rounding of float32 weights.
_UNIFORM = 1e-5
# Error bars above this share of the value leave it unknown.
_EXACT = 1e-2


@dataclass(frozen=True)
class GraphDescent:
    """How far down values are exact.

    Attributes
    ----------
    values
        What was solved exactly, by number in the graph, closed units at zero.
    open
        Masks of the units that make these values.
    residuals
        By weight, what of its gradient no input explains: the certificate of every layer.
    partial
        Equations in the value at which it ended; None where it ended otherwise.
    ended
        Why it went no further, in one clause; empty where the value that the clip enters by is exact.
    bottom
        The value that the clip enters by, and the weight that reads it, where the descent reached it.
    depth
        How far it came with every value that weights read, from the head down.
    activation
        The lowest one that is known as a whole.
    loose
        Axes of the values whose order is a guess: the average counts all places along them alike.
    hidden
        Whether it ended because a convolution reads across them.
    """

    graph: CallGraph
    values: Mapping[int, Tensor]
    open: Mapping[int, Tensor]
    residuals: Mapping[str, float]
    flips: int
    partial: Partial | None
    ended: str
    bottom: tuple[int, str] | None
    depth: tuple[RecoveredInput, ...]
    activation: RecoveredActivation | None
    loose: tuple[int, ...] = ()
    hidden: bool = False


def descend_graph(view: View, clock: Clock, order: Sequence[int] | None = None) -> GraphDescent | str:
    """Solve value after value, from the lowest Linear layer that gives its input away; or say what is in the way.

    A value is solved from the gradients of all weights that read it, stacked, once the loss's gradient is known at
    their outputs. Its zeros are the masks of the rectifier that made it, which give the gradient below. Affine calls
    (convolutions, norms with fixed statistics, sums, averages, rearrangements) only pass the gradient on, so a residual
    connection needs no rule of its own. Behind an average over positions the masks come from `peel_corners`;
    `order` is that of the places which it does not tell apart.
    Derived for this project; after R-GAP (Zhu & Blaschko 2021, arXiv 2010.07733).
    """
    graph = trace_client(view)
    if graph is None:
        return "the model's calls do not repeat its answer"
    head = gradient_at_head(view, graph)
    if head is None:
        return NO_HEAD
    return _Descent(view, graph, clock, order).run(*head)


class _Descent:
    def __init__(self, view: View, graph: CallGraph, clock: Clock, order: Sequence[int] | None) -> None:
        self._order = order
        self._view, self._graph, self._clock = view, graph, clock
        self._state = Pending({})
        self._values: dict[int, Tensor] = {}
        self._open: dict[int, Tensor] = {}
        self._residuals: dict[str, float] = {}
        self._rectified: dict[int, Rectified] = {}
        self._solved: dict[int, tuple[Tensor, Tensor]] = {}
        self._flips = 0
        self._head: Call | None = None
        self._depth: dict[str, RecoveredInput] = {}
        self._activation: RecoveredActivation | None = None
        self._loose: tuple[int, ...] = ()
        self._hidden, self._peeled = False, ""
        # Values that hold nothing but the clip's own pixels.
        self._pixels = {0}
        for call in graph.calls:
            if set(call.inputs) <= self._pixels and self._graph.kind(call) in ("affine", "rearranges"):
                self._pixels.update(call.outputs)

    def run(self, head: int, cotangent: Tensor) -> GraphDescent:
        self._head = self._graph.calls[head]
        self._state.cotangents[self._head.outputs[0]] = cotangent
        partial, ended, bottom, place = None, "", None, head
        try:
            while place >= 0:
                place = self._step(place)
            bottom = self._enter()
        except Ended as end:
            ended, partial = str(end), end.partial
        return GraphDescent(
            graph=self._graph,
            values=self._values,
            open=self._open,
            residuals=self._residuals,
            flips=self._flips,
            partial=partial,
            ended=ended,
            bottom=bottom,
            depth=tuple(self._depth.values()),
            activation=self._activation,
            loose=self._loose,
            hidden=self._hidden,
        )

    def _step(self, place: int) -> int:
        """Pass one call; return the place of the next: one further up where units were decided otherwise."""
        call, state = self._graph.calls[place], self._state
        if self._clock.left < 0.0:
            raise Ended("time was up")
        mine = {n: state.cotangents.pop(n) for n in call.outputs if n in state.cotangents}
        if not mine or call.outputs[0] in self._pixels:
            return place - 1
        kind = self._graph.kind(call)
        if kind == "rectifies":
            return self._rectify(place, call, mine[call.outputs[0]])
        if kind in ("picks", "mixes"):
            return self._mix(call)
        if kind == "weighted" and not self._averages(call):
            state.readers.setdefault(call.inputs[0], []).append((call, mine[call.outputs[0]]))
        if kind == "rearranges" and (call.outputs[0] in state.readers or call.outputs[0] in state.aliases):
            state.aliases[call.inputs[0]] = (call.outputs[0], call)
        if not set(call.inputs) <= self._pixels:
            for n, pulled in self._graph.pull(call, mine).items():
                state.add(n, pulled)
        return place - 1

    def _mix(self, call: Call) -> int:
        """Solve for what a call makes that passes nothing on; go back up where that settles units there otherwise."""
        rectified = self._graph.kind(call) == "picks" and self._nonnegative(call.inputs[0])
        for value in call.outputs:
            back = self._solve(value, rectified)
            if back is not None:
                self._state = self._rectified[back].above.copy()
                return back
            if value in self._solved:
                made, deviation = self._solved[value]
                self._open[value] = split(made, deviation)[0] if rectified else torch.ones_like(made, dtype=torch.bool)
                self._values[value] = torch.where(self._open[value], made, torch.zeros_like(made))
        raise Ended(f"{call.name} mixes values that are not known")

    def _nonnegative(self, value: int) -> bool:
        return value != 0 and self._graph.kind(self._graph.calls[self._graph.producer[value]]) == "rectifies"

    def _averages(self, call: Call) -> bool:
        """Tell whether a Linear head reads several rows of a clip: of rank one, its gradient does not tell them."""
        rows = torch.Size(self._graph.shapes[call.outputs[0]][:-1]).numel()
        return call is self._head and rows > self._graph.shapes[0][0]

    def _rectify(self, place: int, call: Call, cotangent: Tensor) -> int:
        """Decide which units of a rectifier are open; go back up first where that settles units there otherwise."""
        (before,), (value,) = call.inputs, call.outputs
        above = self._state.copy()
        above.cotangents[value] = cotangent
        held = self._rectified.get(place)
        if held is None:
            back = self._solve(value)
            if back is not None:
                self._state = self._rectified[back].above.copy()
                return back
            held = self._decided(place, value, cotangent, above)
            self._rectified[place] = held
        held.above = above
        self._open[value] = held.open
        if value in self._solved:
            made, _ = self._solved[value]
            self._values[value] = torch.where(held.open, made, torch.zeros_like(made))
        if bool(held.undecided.any()):
            held.reach = self._reach(place, {before: cotangent * held.undecided})
        self._state.add(before, cotangent * held.open)
        return place - 1

    def _decided(self, place: int, value: int, cotangent: Tensor, above: Pending) -> Rectified:
        if value in self._solved:
            open_, undecided = split(*self._solved[value])
            return Rectified(open_, undecided, above)
        open_, undecided = self._behind_average(place, cotangent)
        return Rectified(open_, undecided, above)

    def _behind_average(self, place: int, cotangent: Tensor) -> tuple[Tensor, Tensor]:
        """Return masks of units whose values no weight reads, where all positions count alike; and which are unsure."""
        call = self._graph.calls[place]
        if not _uniform(cotangent):
            raise Ended(f"no weight reads what {call.name} makes, and its positions do not count alike")
        why = f"no convolution lies before what {call.name} makes, or what lies between mixes positions"
        for below, gates in self._reach(place, {call.inputs[0]: cotangent}).items():
            reader = self._graph.calls[below]
            sent = self._view.update.gradients.get(reader.weight or "")
            if sent is None or gates.shape != cotangent.shape or not _uniform(gates):
                continue
            found = peel_corners(self._graph.operation(reader), gates, sent.double())
            if isinstance(found, PeeledMasks):
                self._residuals[f"masks above {reader.weight}"] = found.off
                if found.loose and self._peeled:
                    raise Ended(f"places above {reader.weight} and those above {self._peeled} come in separate orders")
                self._peeled = reader.weight or "" if found.loose else self._peeled
                if self._order is not None:
                    found = found.ordered(self._order)
                self._loose = self._loose or found.loose
                return found.masks, found.undecided & (cotangent != 0.0)
            why = found
        raise Ended(why)

    def _solve(self, value: int, rectified: bool = True) -> int | None:
        """Solve for a value, if weights read it; return the place of a rectifier whose units that settled otherwise."""
        state, source, through = self._state, value, []
        while source not in state.readers and source in state.aliases:
            source, call = state.aliases[source]
            through.append(call)
        if source not in state.readers or value in self._solved:
            return None
        made, back = self._equations(source, rectified)
        parts = [made.value, made.deviation]
        for call in reversed(through):
            parts = [self._graph.pull(call, {call.outputs[0]: part})[call.inputs[0]] for part in parts]
        self._solved[value] = (parts[0], parts[1])
        return back

    def _equations(self, value: int, rectified: bool) -> tuple[Solved, int | None]:
        """Solve the stacked equations of all weights that read a value, and settle the units that they decide."""
        readings, places = [], []
        for call, cotangent in self._state.readers[value]:
            sent = self._view.update.gradients.get(call.weight or "")
            if sent is None or sum(c.weight == call.weight for c in self._graph.calls) > 1:
                continue
            operation = self._graph.operation(call)
            if operation.reads_across(self._loose):
                self._hidden = True
                raise Ended(f"{call.weight} reads across positions whose order the average hides")
            place, units = self._undecided(call)
            opened = None if place is None else self._rectified[place].open & (units != 0.0)
            readings.append(MaskedReading(operation, cotangent, sent, units, opened))
            places.append(place)
        names = " and ".join(str(call.weight) for call, _ in self._state.readers[value])
        if not readings:
            raise Ended(f"{names} was not sent, or is read more than once")
        made = solve_value(readings, rectified)
        if isinstance(made, str):
            raise Ended(made)
        if made.residual > CONSISTENT:
            raise Ended(f"the gradient of {names} contradicts what lies above: residual {made.residual:.1g}")
        if not made.exact:
            rank, positions = made.projections.shape
            known = KnownAbove(self._graph, value, self._values, self._open, self._graph.kind)
            completed = complete_jointly(made, known, rectified, self._clock)
            if isinstance(completed, str):
                why = f"{names} give {rank} equations for {positions} positions of a channel, and {completed}"
                self._depth[names] = recovered_input(made, sought=True)
                raise Ended(why, Partial(value, names, made) if self._masks_are_exact else None)
            made = completed
        if float(made.deviation.square().mean()) > _EXACT**2 * float(made.value.square().mean()):
            raise Ended(f"rounding of the gradient of {names} is as large as what was read")
        self._residuals.update({reading.operation.weight: made.residual for reading in made.readings})
        self._depth[names] = recovered_input(made)
        self._activation = RecoveredActivation(weight=made.readings[0].operation.weight, value=made.value)
        self._flips += made.flips
        return made, self._settled(made, places)

    @property
    def _masks_are_exact(self) -> bool:
        # Completed values have a few masks wrong; with equations on these r3d_18 stood at 45 dB, without at 73 dB.
        return all(one.how != "completed" for one in self._depth.values())

    def _undecided(self, call: Call) -> tuple[int | None, Tensor | None]:
        """Return the rectifier whose undecided units a weighted call shows, and what they add at its output."""
        place = self._graph.calls.index(call)
        for above, held in self._rectified.items():
            adds = held.reach.get(place)
            if adds is not None and adds.shape == held.open.shape and not bool(((adds != 0.0) & ~held.undecided).any()):
                return above, adds
        return None, None

    def _settled(self, made: Solved, places: list[int | None]) -> int | None:
        changed = []
        for reading, place in zip(made.readings, places, strict=True):
            if place is None or reading.units is None or reading.open is None:
                continue
            held = self._rectified[place]
            decided = torch.where(reading.units != 0.0, reading.open, held.open)
            if not torch.equal(decided, held.open):
                changed.append(place)
            held.open, held.undecided, held.reach = decided, torch.zeros_like(held.undecided), {}
        return max(changed, default=None)

    def _reach(self, place: int, cotangents: dict[int, Tensor]) -> dict[int, Tensor]:
        """Return what gradients at a rectifier's input make at the outputs of weighted calls below, by place."""
        found: dict[int, Tensor] = {}
        left = dict(cotangents)
        for below in range(place - 1, -1, -1):
            call = self._graph.calls[below]
            mine = {n: left.pop(n) for n in call.outputs if n in left}
            if not mine:
                continue
            kind = self._graph.kind(call)
            if kind == "weighted":
                found[below] = mine[call.outputs[0]]
            elif kind in ("affine", "rearranges"):
                for n, pulled in self._graph.pull(call, mine).items():
                    left[n] = left[n] + pulled if n in left else pulled
        return found

    def _enter(self) -> tuple[int, str] | None:
        """Solve for what the clip enters by."""
        value = next((n for n in self._state.readers if n in self._pixels), None)
        if value is None:
            return None
        made, _ = self._equations(value, rectified=False)
        self._values[value] = made.value
        return value, made.readings[0].operation.weight


def _uniform(cotangent: Tensor) -> bool:
    """Tell whether a gradient is the same at every position of an image or clip, for each of them."""
    if cotangent.dim() < 4:
        return False
    positions = cotangent.flatten(2)
    return float((positions - positions[:, :, :1]).abs().max()) <= _UNIFORM * float(positions.abs().max())
