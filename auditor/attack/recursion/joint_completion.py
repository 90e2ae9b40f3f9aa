"""What too few equations leave open of a value, decided by all that is known further up and by signs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from auditor.attack.recursion.known_above import KnownAbove
from auditor.attack.recursion.masked_system import Solved
from auditor.attack.recursion.subnetwork import Operation
from auditor.attack.recursion.weight_system import columns, from_columns
from auditor.records import Clock
from auditor.solvers.conjugate_gradients import conjugate_gradients
from auditor.solvers.gauss_newton import Linearised
from auditor.solvers.line_search import halved

# Newton steps, products of each, and how exactly each is solved: the active set changes faster than that.
_STEPS, _PRODUCTS, _TOLERANCE = 60, 60, 1e-2
_HALVINGS = 6
# A step that leaves this share of the misfit is the last.
_SETTLED = 0.9
# An equation that holds a direction no better than this, relative to the value, is one among those further up.
_FIRM = 1e-5
# Loose equations err by more than their error bars say (measured: a hundredfold), so they weigh less.
_LOOSE = 0.01
# Share of the values that may be open where there are bounds alone: signs decide no more of them (`masked_system`).
_MOST_FREE = 0.3
# Misfit that rounding of float32 leaves, relative.
_ROUNDING = 3e-7
# A misfit beyond this contradicts what is known above; error bars beyond that share of the value leave it open.
_CONSISTENT, _KNOWN = 1e-3, 1e-2
# Draws of the error, and products spent on each.
_DRAWS, _DRAW_PRODUCTS = 2, 200


@dataclass(frozen=True)
class OpenDirections:
    """Orthonormal directions of each class of positions that equations hold too loosely, the same for all channels.

    Attributes
    ----------
    classes
        Positions, directions, and the weight of what equations say of each: that the start has it right; 0 where they
        say nothing.
    """

    classes: tuple[tuple[Tensor, Float[Tensor, "position direction"], Float[Tensor, " direction"]], ...]
    positions: int
    channels: int

    @classmethod
    def of(cls, found: Solved, channels: int, size: float) -> "OpenDirections":
        """Return what a solution leaves open, of values of a given size."""
        made = []
        for at in found.classes:
            rows = found.projections[:, at]
            mine = (rows != 0.0).any(1)
            rows, noise = rows[mine], found.noise[mine]
            firm = noise <= _FIRM * size
            loose = torch.linalg.qr(rows.T, mode="complete").Q[:, len(rows) :]
            basis = torch.cat([rows[~firm].T, loose], dim=1)
            weight = torch.cat([_LOOSE * _ROUNDING * size / noise[~firm], loose.new_zeros(loose.shape[1])])
            if basis.shape[1]:
                made.append((at, basis.float(), weight.float()))
        return cls(tuple(made), found.projections.shape[1], channels)

    @property
    def count(self) -> int:
        """How many numbers are open, over all channels."""
        return self.channels * sum(basis.shape[1] for _, basis, _ in self.classes)

    @property
    def weights(self) -> Float[Tensor, " direction"]:
        """What the start says of each coordinate."""
        return torch.cat([weight.repeat_interleave(self.channels) for _, _, weight in self.classes])

    def lift(self, coordinates: Float[Tensor, " direction"]) -> Float[Tensor, "position channel"]:
        """Return the value that has these coordinates."""
        sizes = [basis.shape[1] * self.channels for _, basis, _ in self.classes]
        parts = torch.split(coordinates, sizes)
        made = coordinates.new_zeros(self.positions, self.channels)
        for (at, basis, _), part in zip(self.classes, parts, strict=True):
            made = made.index_copy(0, at, basis @ part.view(-1, self.channels))
        return made


class _System:
    """Bounds above, the value's own sign and its loose equations, as functions of the open coordinates.

    Every kind of residual is relative to the root mean square of what it speaks of.
    """

    def __init__(
        self, start: Tensor, free: OpenDirections, above: KnownAbove, reader: Operation, rectified: bool
    ) -> None:
        self.free, self._above, self._reader, self._rectified = free, above, reader, rectified
        self._start = start
        self._sizes = [_size(bound.value[bound.open]) for bound in above.bounds]
        self._own = _size(start)
        self._weights = free.weights / self._own
        zero = torch.zeros(free.count)
        self._linear = Linearised(lambda u: [*self._made(free.lift(u)), u * self._weights], zero)

    def _made(self, value: Tensor) -> list[Tensor]:
        shaped = from_columns(value, self._reader)
        made = [m / size for m, size in zip(self._above(shaped), self._sizes, strict=True)]
        return [*made, value / self._own]

    def residuals(self, coordinates: Tensor) -> list[Tensor]:
        """Return what is missed; in float64, but for the loose equations."""
        with torch.no_grad():
            *made, own = self._made(self._start + self.free.lift(coordinates).double())
        missed = [
            bound.missed(m * size) / size for bound, m, size in zip(self._above.bounds, made, self._sizes, strict=True)
        ]
        negative = own.clamp(max=0.0) if self._rectified else torch.zeros_like(own)
        return [*missed, negative, coordinates * self._weights]

    def active(self, missed: Sequence[Tensor]) -> list[Tensor]:
        """Return which rows hold the value where it is."""
        *above, negative, _ = missed
        held = [bound.held(m) for bound, m in zip(self._above.bounds, above, strict=True)]
        return [*held, negative < 0.0, self._weights > 0.0]

    def step(self, right: Sequence[Tensor], active: Sequence[Tensor], most: int, tolerance: float) -> Tensor:
        """Return the least squares solution of the active rows."""

        def masked(rows: Sequence[Tensor]) -> list[Tensor]:
            return [row.float() * on for row, on in zip(rows, active, strict=True)]

        def gram(v: Tensor) -> Tensor:
            return self._linear.transposed(masked(self._linear.product(v)))

        return conjugate_gradients(gram, self._linear.transposed(masked(right)), most, tolerance)[0]

    def seen(self, value: Tensor, coordinates: Tensor) -> list[Tensor]:
        """Return what a change of the start and of the coordinates changes of every row."""
        with torch.no_grad():
            moved = self._start + value + self.free.lift(coordinates).double()
            there, here = self._made(moved), self._made(self._start)
        return [*(a - b for a, b in zip(there, here, strict=True)), coordinates * self._weights]


def complete_jointly(found: Solved, above: KnownAbove, rectified: bool, clock: Clock) -> Solved | str:
    """Return a value's solution with what is open chosen so that all that is known above comes out.

    All channels at once: a known value further up is one linear equation in them, where its unit is open, and a bound
    where it is closed. Newton on the squared misfit of equations and violated bounds (as `sign_completion`), each step
    by conjugate gradients, so that no matrix is formed.

    Parameters
    ----------
    found
        The value's own equations and their solution of least norm.
    rectified
        Whether the value comes from a rectifier, so that it is nowhere negative.
    """
    reader = found.readings[0].operation
    start, noise = (columns(v, reader) for v in (found.value, found.deviation))
    free = OpenDirections.of(found, start.shape[1], _size(start))
    if all(bound.at_most for bound in above.bounds) and free.count > _MOST_FREE * start.numel():
        return f"signs alone do not decide {free.count} open directions of {start.numel()} values"
    system = _System(start, free, above, reader, rectified)
    u = torch.zeros(free.count)
    missed = system.residuals(u)
    cost = _cost(missed)
    for _ in range(_STEPS):
        active = system.active(missed)
        if sum(int(on.sum()) for on in active) < free.count:
            return f"what is known above holds fewer than the {free.count} open directions"
        if clock.left < 0.0:
            return "time was up"
        step = system.step([-m for m in missed], active, _PRODUCTS, _TOLERANCE)
        moved, less = halved(u, step, lambda v: _cost(system.residuals(v)), cost, _HALVINGS)
        if not less < cost:
            break
        before, u, missed, cost = cost, moved, system.residuals(moved), less
        if cost > _SETTLED * before:
            break
    active = system.active(missed)
    rows = sum(int(on.sum()) for on in active)
    spread = max(math.sqrt(cost / max(rows - free.count, 1)), _ROUNDING)
    value = start + free.lift(u).double()
    misfit = math.sqrt(cost / max(rows, 1))
    if misfit > _CONSISTENT:
        return f"what is known above contradicts them: residual {misfit:.1g}"
    if _open(system, active) > _KNOWN:
        return "what is known above leaves some of the rest open"
    deviation = _deviation(system, active, noise, spread)
    return replace(
        found,
        value=from_columns(value, reader),
        deviation=from_columns(deviation, reader),
        exact=True,
        residual=max(found.residual, misfit),
    )


def _open(system: _System, active: Sequence[Tensor]) -> float:
    """Return which share of random coordinates the active rows do not bring back."""
    drawn = _normal((system.free.count,), 0)
    still = system.seen(torch.zeros(()), drawn)
    return float((drawn - system.step(still, active, _DRAW_PRODUCTS, _KNOWN**2)).norm() / drawn.norm())


def _deviation(
    system: _System, active: Sequence[Tensor], noise: Tensor, spread: float
) -> Float[Tensor, "position channel"]:
    """Return error bars from draws of all errors, pooled over positions and over channels.

    A draw changes the start by its noise and what is known above by what it was missed by.
    """
    total = torch.zeros_like(noise)
    for draw in range(_DRAWS):
        error = noise * _normal(noise.shape, draw)
        *above, negative, loose = system.seen(error, torch.zeros(system.free.count))
        rows = [row + spread * _normal(row.shape, draw + _DRAWS) for row in (*above, negative, loose)]
        found = system.step([-row for row in rows], active, _PRODUCTS, _TOLERANCE)
        total += (error + system.free.lift(found).double()).square() / _DRAWS
    return (total.mean(0, keepdim=True) * total.mean(1, keepdim=True) / total.mean().clamp(min=1e-300)).sqrt()


def _normal(shape: Sequence[int], seed: int) -> Tensor:
    return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(seed))


def _cost(missed: Sequence[Tensor]) -> float:
    return sum(float(m.square().sum()) for m in missed)


def _size(value: Tensor) -> float:
    return max(float(value.double().square().mean().sqrt()) if value.numel() else 0.0, 1e-30)
