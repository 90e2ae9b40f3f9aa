"""From the head downwards: the exact input of every layer whose weight gradient determines it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from auditor.attack.closed_form.linear_input import LinearInput, recover_linear_input
from auditor.attack.recursion.pooled_units import open_cotangent
from auditor.attack.recursion.subnetwork import Operation, chain, run
from auditor.attack.recursion.unit_inverse import Preimage, invert_units
from auditor.attack.recursion.weight_system import ROUNDING, WeightSystem, columns, from_columns, weight_system
from auditor.prior.modes import CosineTransform
from auditor.prior.spectrum import Spectrum
from auditor.records import Clips, View
from auditor.solvers.least_norm import least_norm

NO_HEAD = "no Linear layer through which alone the clip reaches the logits gives its input away"
_AGAIN = 4
# Clips that are drawn from the prior to learn what a layer usually reads.
_DRAWS = 32
# Beyond this a unit's second value is taken; what equations say about it lies near 0 or near 1.
_HALF = 0.5
# What of a gradient no input explains: rounding leaves 1e-7, one unit's wrong value far more.
_CONSISTENT = 1e-3
# Unknowns that the known values of a layer's output may have to settle, and how well they must.
_COMPLETED, _DETERMINED = 1500, 1e-4


@dataclass(frozen=True)
class KnownActivation:
    """The lowest place of the net at which the values behind the clip and the loss's gradient are known.

    Attributes
    ----------
    operation, side
        Whose input or output it is.
    value, cotangent, flat
        As in `Preimage`; at a layer's input no unit is flat.
    system
        Equations in the operation's input, from the gradient of its weight; None where it gives none.
    """

    operation: Operation
    side: Literal["input", "output"]
    value: Tensor
    cotangent: Tensor
    flat: Tensor
    system: WeightSystem | None = None


@dataclass(frozen=True)
class Descent:
    """How far down the recursion was exact.

    Attributes
    ----------
    weights
        Weights of the net's convolutions and matrix products, by name.
    exact
        Those whose operation's input was found exactly, from the head down, with the relative residual of the equations
        it was solved from.
    deepest
        Where it ended.
    ended
        Why it went no further, in one clause; empty where the input of the first operation is exact.
    """

    weights: Mapping[str, Tensor]
    exact: Mapping[str, float]
    deepest: KnownActivation
    ended: str


def descend(view: View, guess: Clips | None = None) -> Descent | str:
    """Solve layer after layer, from the lowest Linear layer that gives its input away; or say what is in the way.

    Below it, units are inverted (`unit_inverse`), which gives the gradient at the output of the next operation, and
    that turns the gradient of its weight into linear equations in its input (`weight_system`). After R-GAP (Zhu &
    Blaschko 2021, arXiv 2010.07733) and COPA (Chen & Campbell 2021, arXiv 2111.10178). Of this project: one system for
    all input channels, units that have no inverse, and ending with what is known rather than with a failure.

    `guess` decides between two values of a unit where equations leave that open; without it the usual one is taken.
    """
    model = view.target.model
    model.batchnorm(view.client.protocol.bn)
    model.dropout(False)
    weights = {n: p for n, p in model.named_parameters() if p.dim() > 1}
    device = next(iter(weights.values())).device
    clip = torch.rand((1, *view.knowledge.clip_shape), generator=torch.Generator().manual_seed(0)).to(device)
    held = chain(model, clip, weights)
    start = _start(view, held)
    if start is None:
        return NO_HEAD
    place, found = start
    head = held[place]
    if not bool(found.value.any()):
        return f"{head.weight} read nothing but zeros"
    value = found.value.float().reshape(head.input.shape)
    output = head.oriented(view.update.gradients[head.weight].double()) @ found.value / found.value.square().sum()
    cotangent = _pull(head, output.float().reshape(head.output.shape))
    exact = {head.weight: found.rank_one_residual}
    rounding = max(ROUNDING, found.rank_one_residual)
    above = head
    for operation in reversed(held[:place]):
        segment = _segment(view, weights, held[: held.index(operation)], operation, above, clip)
        pre = invert_units(segment, operation.output, value, cotangent)
        deepest = KnownActivation(above, "input", value, cotangent, torch.zeros_like(value))
        gradient = view.update.gradients.get(operation.weight)
        if pre is None:
            solved = None
            if gradient is not None:
                drawn = _drawn(view, weights, operation)
                solved = open_cotangent(operation, segment, cotangent, gradient, drawn, rounding)
            if solved is None:
                return Descent(
                    weights, exact, deepest, f"units are mixed between {operation.weight} and {above.weight}"
                )
            opened, equations = solved
            if not equations.exact:
                # Of what the units were given only the sign is known.
                sides = torch.where(opened != 0.0, 1.0, -1.0)
                rank, positions = equations.projections.shape
                ended = f"{operation.weight} gives {rank} equations for {positions} positions of a channel"
                signs = KnownActivation(operation, "output", torch.zeros_like(opened), opened, sides, equations)
                return Descent(weights, exact, signs, ended)
            value, cotangent = equations.solution().float(), _pull(operation, opened)
            exact[operation.weight] = equations.residual
            above = operation
            continue
        if gradient is None:
            return Descent(weights, exact, _output(operation, pre, None), f"{operation.weight} was not sent")
        near = None if guess is None else run(model, guess, weights, until=operation.weight)[0][operation.weight][0]
        two = bool(pre.ambiguous.any())
        pre, system = _solve(operation, pre, gradient, rounding, None if near is None else near.output.detach())
        if system is not None and system.residual > _CONSISTENT:
            open_ = f"units after {operation.weight} have two values that stay undecided"
            noisy = f"the gradient of {operation.weight} contradicts that of {above.weight}"
            return Descent(weights, exact, deepest, open_ if two else noisy)
        solution = None if system is None else _solution(system, pre)
        if system is None or solution is None:
            why = "no equations" if system is None else f"{system.projections.shape[0]} equations"
            positions = columns(operation.input, operation).shape[0]
            ended = f"{operation.weight} gives {why} for {positions} positions of a channel"
            return Descent(weights, exact, _output(operation, pre, system), ended)
        value, cotangent = solution.float(), _pull(operation, pre.cotangent)
        exact[operation.weight] = system.residual
        above = operation
    return Descent(weights, exact, KnownActivation(above, "input", value, cotangent, torch.zeros_like(value)), "")


def _start(view: View, held: Sequence[Operation]) -> tuple[int, LinearInput] | None:
    """Return the first operation of the chain that is a Linear layer seen by one row and gives its input away."""
    owners = {name: layer for layer in view.target.layers for name in layer.parameters}
    for place, operation in enumerate(held):
        layer = owners.get(operation.weight)
        if operation.convolution is not None or layer is None or operation.input.numel() != operation.input.shape[-1]:
            continue
        found = recover_linear_input(view, layer)
        if found is not None and found.weight == operation.weight and found.value.numel() == operation.input.numel():
            return place, found
    return None


def _drawn(view: View, weights: Mapping[str, Tensor], operation: Operation) -> list[Tensor]:
    """Return what an operation reads of clips drawn from the prior."""
    shape = view.knowledge.clip_shape
    generator = torch.Generator().manual_seed(0)
    deviation = Spectrum().variance(shape).sqrt().float()
    transform = CosineTransform.of(shape, deviation)
    made = []
    for _ in range(_DRAWS):
        modes = torch.randn((1, *shape), generator=generator) * deviation
        clip = (0.5 + transform.clips(modes)).clamp(0.0, 1.0).to(operation.input)
        with torch.no_grad():
            seen, _ = run(view.target.model, clip, weights, until=operation.weight)
        made.append(seen[operation.weight][0].input)
    return made


def _segment(
    view: View,
    weights: Mapping[str, Tensor],
    before: Sequence[Operation],
    low: Operation,
    high: Operation,
    clip: Tensor,
) -> Callable[[Tensor], Tensor]:
    """Return the function from the output of one operation to the input of the next one of the chain."""

    def segment(value: Tensor) -> Tensor:
        instead = (low.weight, "output", value)
        seen, _ = run(view.target.model, clip, weights, instead, high.weight, before)  # type: ignore[arg-type]
        return seen[high.weight][0].input

    return segment


def _pull(operation: Operation, cotangent: Tensor) -> Tensor:
    value = operation.input.detach().clone().requires_grad_(True)
    with torch.enable_grad():
        (pulled,) = torch.autograd.grad(operation(value), value, cotangent)
    return pulled


def _output(operation: Operation, pre: Preimage, system: WeightSystem | None) -> KnownActivation:
    return KnownActivation(operation, "output", pre.value, pre.cotangent, pre.flat, system)


def _solve(
    operation: Operation, pre: Preimage, gradient: Tensor, rounding: float, near: Tensor | None = None
) -> tuple[Preimage, WeightSystem | None]:
    """Return the equations, after the units with two possible values were decided as far as equations decide them."""
    second = torch.zeros_like(pre.ambiguous)
    if bool(pre.ambiguous.any()):
        second = _decided(operation, pre, gradient) if near is None else _nearer(pre, near)
    for _ in range(_AGAIN):
        settled = pre.chosen(second)
        system = weight_system(operation, settled.cotangent, gradient, rounding)
        if system is None or not system.exact or not bool(pre.ambiguous.any()):
            break
        nearer = _nearer(pre, operation(system.solution().float()).detach())
        if bool((nearer == second).all()):
            break
        second = nearer
    return settled, system


def _nearer(pre: Preimage, value: Tensor) -> Tensor:
    return ((value - pre.other).abs() < (value - pre.value).abs()) & pre.ambiguous


def _solution(system: WeightSystem, pre: Preimage) -> Tensor | None:
    """Return the operation's input, where its weight's gradient and the known values of its output determine it."""
    if system.exact:
        return system.solution()
    operation, (rank, positions) = system.operation, system.projections.shape
    channels = system.known.shape[1]
    missing = (positions - rank) * channels
    known = (pre.flat == 0).flatten()
    if system.noisy or missing > _COMPLETED or int(known.sum()) < missing:
        return None
    base = system.solution()
    open_ = torch.linalg.qr(system.projections.T, mode="complete").Q[:, rank:]
    with torch.no_grad():
        nothing = operation(torch.zeros_like(operation.input)).flatten()[known]
        moves = []
        for direction in open_.T:
            for channel in range(channels):
                one = open_.new_zeros(positions, channels)
                one[:, channel] = direction
                moves.append(operation(from_columns(one, operation).float()).flatten()[known] - nothing)
        rest = pre.value.flatten()[known] - operation(base.float()).flatten()[known]
    matrix = torch.stack(moves, dim=1).double()
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    if float(s[-1]) < _DETERMINED * float(s[0]):
        return None
    found = (v.T @ ((u.T @ rest.double()) / s)).view(positions - rank, channels)
    return base + from_columns(open_ @ found, operation)


def _decided(operation: Operation, pre: Preimage, gradient: Tensor) -> Tensor:
    """Return the units whose second value is the right one, as far as the rank of the gradient tells.

    Seen as a matrix with one row for each output channel, the gradient is D X with one column of D for each output
    position. With fewer positions than channels the columns of D lie in its range, which is linear in which of the
    two gradients a unit has. Where the range is everything, the first value stands.
    """
    first, other, ambiguous = (columns(v, operation) for v in (pre.cotangent, pre.other_cotangent, pre.ambiguous))
    matrix = gradient.double()
    matrix = operation.oriented(matrix) if operation.convolution is None else matrix.flatten(1)
    positions, channels = first.shape
    second = torch.zeros_like(ambiguous)
    if positions < channels:
        u, _, _ = torch.linalg.svd(matrix, full_matrices=True)
        null = u[:, positions:].T
        for p in range(positions):
            units = ambiguous[p].nonzero().flatten()
            if 0 < len(units) <= len(null):
                change = null[:, units] * (other - first)[p, units].double()
                share = least_norm(change, -(null @ first[p].double())[:, None]).flatten()
                second[p, units] = share > _HALF
    return from_columns(second, operation, pre.ambiguous)
