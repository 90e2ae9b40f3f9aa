"""Weight gradients as equations in what their layers read, where some units above may be open or closed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from auditor.attack.recursion.pooled_units import tap_positions
from auditor.attack.recursion.sign_completion import complete
from auditor.attack.recursion.subnetwork import Operation
from auditor.attack.recursion.weight_system import ROUNDING, columns, equation_rows, from_columns, obstacle, right_side
from auditor.records import RecoveredInput

# Singular values below this share of the largest one are rounding, in a class of positions that is not determined.
_RANK_CUT = 3e-6
# Of a rectifier's values, a direction that is known no better than this share of their size is left to the signs.
_NOISY = 3e-5
# Share of the positions that may be open directions: signs decide 0.16 of them at random positions, not 0.3.
_MOST_FREE = 0.3
# What may stay below zero of a channel that signs settled, relative to it.
_NEGATIVE = 1e-3
_ROUNDS = 8
# Where positions stay open, misfit still shows wrong units if equations are this many times their rank.
_SPARE = 1.5
# Rows of an output channel that miss this many times what a quiet channel misses hold a unit that is wrong.
_OUTLIER, _QUIET = 3.0, 0.25
# What of a channel's misfit undecided units must explain, and the coefficient that means "the other way".
_GAIN, _FLIP = 0.2, (0.5, 1.8)
# More undecided units than this in one channel are not told apart.
_UNDECIDED = 60
# A value above this many deviations is open; between these two it is left to the next equations. Measured on r3d_18 at
# 8x32x32 to 16x112x112: the largest value of a closed unit is 5 to 7 deviations, calibrated.
_OPEN, _LOW, _HIGH = 8.0, 2.0, 60.0
# Multiplications of the largest decomposition (minutes on one core).
MOST_WORK = 4e11
# Entries of the largest matrix (0.5 GB), before it is cut into classes.
_ENTRIES = 6e7


@dataclass(frozen=True)
class MaskedReading:
    """A convolution or matrix product that reads the unknown value, and what is known of it.

    Attributes
    ----------
    cotangent
        The loss's gradient at its output, with the undecided units as they are now.
    units
        What each undecided unit adds to it when open; zero elsewhere.
    open
        Which of them are open now.
    gradient
        Of its weight, as sent.
    """

    operation: Operation
    cotangent: Tensor
    gradient: Tensor
    units: Tensor | None = None
    open: Tensor | None = None

    @property
    def modulus(self) -> tuple[int, ...]:
        """Strides along the axes of positions."""
        settings = self.operation.convolution
        return () if settings is None else tuple(settings["stride"])

    def flipped(self, which: Tensor) -> "MaskedReading":
        """Return the reading with some undecided units the other way."""
        assert self.units is not None
        assert self.open is not None
        change = torch.where(self.open, -self.units, self.units) * which
        return replace(self, cotangent=self.cotangent + change, open=self.open ^ which)


@dataclass(frozen=True)
class Solved:
    """What the equations say of the value that the readings share.

    Attributes
    ----------
    value, deviation
        Least-norm solution and its error bars, shaped as the value.
    exact
        Whether every position is determined.
    projections, known, noise
        Orthonormal rows, what they give for each channel, and the deviation of its error: all that is known where it is
        not exact.
    residual
        What of the gradients no value explains, relative to their norm; or what stays below zero of a value that signs
        completed, relative to it, if that is more.
    readings
        As given, with undecided units as the equations decide them.
    flips
        How many units changed sides.
    classes
        Positions that share no equation with those of other classes.
    """

    value: Tensor
    deviation: Tensor
    exact: bool
    projections: Float[Tensor, "rank position"]
    known: Float[Tensor, "rank channel"]
    noise: Float[Tensor, " rank"]
    residual: float
    readings: tuple[MaskedReading, ...]
    flips: int
    classes: tuple[Tensor, ...]


@dataclass(frozen=True)
class _Class:
    """The equations of the positions that share a remainder modulo the stride, decomposed.

    `negative` is what is left below zero, relative, where signs completed the solution.
    """

    solution: Tensor
    deviation: Tensor
    projections: Tensor
    known: Tensor
    noise: Tensor
    exact: bool
    negative: float


def solve(readings: Sequence[MaskedReading], rectified: bool = False) -> Solved | str:
    """Solve the stacked equations of all readings for the value they share, deciding undecided units on the way.

    Where the value comes from a rectifier, signs decide what the equations leave open (`sign_completion`).
    Rows are weighted by the size of each output channel's gradient. A unit that is on the wrong side shows as a misfit
    of its output channel; its coefficient in a regression of that misfit on the patches of undecided units is 1.
    """
    for reading in readings:
        why = obstacle(reading.operation)
        if why is not None:
            return f"{reading.operation.weight} is {why}"
    held = tuple(readings)
    right = [right_side(r.operation, r.gradient.double()) for r in held]
    weight = torch.cat([_row_weights(r, g) for r, g in zip(held, right, strict=True)])
    weight = 1.0 / (weight.square() + weight.median() ** 2).sqrt()
    weight = weight / weight.median()
    made, flips = _solved(held, torch.cat(right), weight, rectified), 0
    for _ in range(_ROUNDS):
        if isinstance(made, str) or not (made.exact or len(weight) > _SPARE * len(made.projections)):
            break
        held, changed = _repaired(made, torch.cat(right), weight)
        if not changed:
            break
        made, flips = _solved(held, torch.cat(right), weight, rectified), flips + changed
    return made if isinstance(made, str) else replace(made, flips=flips)


def recovered_input(made: Solved, sought: bool = False) -> RecoveredInput:
    """Return how far equations came with a value, for people."""
    rank, positions = made.projections.shape
    equations = sum(math.prod(_shape(reading)) for reading in made.readings)
    return RecoveredInput(
        weights=tuple(reading.operation.weight for reading in made.readings),
        how="sought" if sought else "exact" if rank == positions else "completed",
        equations=equations,
        unknowns=positions,
        share=rank / positions,
        residual=made.residual,
    )


def split(value: Tensor, deviation: Tensor) -> tuple[Bool[Tensor, "..."], Bool[Tensor, "..."]]:
    """Return which units are open, and which the noise leaves undecided, from values (clip, channel, position...).

    Below zero there is only noise: it calibrates the error bars of every position.
    """
    z = value / deviation.clamp(min=1e-30)
    below = z.clamp(max=0.0).square()
    noise = (below.sum(1, keepdim=True) / (below > 0).sum(1, keepdim=True).clamp(min=1)).sqrt().clamp(min=1.0)
    z = z / noise
    return z > _OPEN, (z > _LOW) & (z < _HIGH)


def _row_weights(reading: MaskedReading, right: Tensor) -> Tensor:
    channels = columns(reading.cotangent, reading.operation).shape[1]
    size = right.reshape(channels, -1).square().mean(1).sqrt().clamp(min=1e-30)
    return size.repeat_interleave(len(right) // channels)


def _solved(readings: Sequence[MaskedReading], right: Tensor, weight: Tensor, rectified: bool) -> Solved | str:
    parts = [equation_rows(r.operation, r.cotangent.double(), _ENTRIES) for r in readings]
    if any(p is None for p in parts):
        return f"the equations of {readings[0].operation.weight} are too many for memory"
    rows = torch.cat([p for p in parts if p is not None])
    first = readings[0].operation
    positions = rows.shape[1]
    value, deviation = (rows.new_zeros(positions, right.shape[1]) for _ in range(2))
    known, projections, noise = [], [], []
    missed, exact, negative = torch.zeros_like(right), True, 0.0
    classes = _classes(readings, positions)
    for at in classes:
        mine = (rows[:, at] != 0.0).any(1).nonzero().flatten()
        made = _class(rows[mine][:, at] * weight[mine, None], right[mine] * weight[mine, None], rectified)
        if made is None:
            return f"the equations of {first.weight} are too many to decompose"
        value[at], deviation[at] = made.solution, made.deviation
        wide = rows.new_zeros(len(made.projections), positions)
        wide[:, at] = made.projections
        projections.append(wide)
        known.append(made.known)
        noise.append(made.noise)
        exact, negative = exact and made.exact, max(negative, made.negative)
        missed[mine] = right[mine] - rows[mine][:, at] @ made.solution
    return Solved(
        value=from_columns(value, first),
        deviation=from_columns(deviation, first),
        exact=exact,
        projections=torch.cat(projections),
        known=torch.cat(known),
        noise=torch.cat(noise),
        residual=max(float(missed.norm() / right.norm().clamp(min=1e-300)), negative),
        readings=tuple(readings),
        flips=0,
        classes=tuple(classes),
    )


def _classes(readings: Sequence[MaskedReading], positions: int) -> list[Tensor]:
    """Return the positions by their remainders modulo the stride: those of different classes share no equation."""
    first = readings[0]
    if not first.modulus or any(len(r.modulus) != len(first.modulus) for r in readings):
        return [torch.arange(positions)]
    shape = first.operation.input.shape
    extents = (shape[0], *shape[2:])
    modulus = [1, *(math.gcd(*(r.modulus[a] for r in readings)) for a in range(len(first.modulus)))]
    place = torch.stack(torch.meshgrid(*(torch.arange(n) for n in extents), indexing="ij")).flatten(1)
    step = torch.tensor(modulus)[:, None]
    found = []
    for remainder in product(*(range(m) for m in modulus)):
        at = (place % step == torch.tensor(remainder)[:, None]).all(0).nonzero().flatten()
        if len(at):
            found.append(at)
    return found


def _class(rows: Tensor, right: Tensor, rectified: bool) -> _Class | None:
    n, m = rows.shape
    if min(n, m) ** 2 * max(n, m) > MOST_WORK:
        return None
    q, r = torch.linalg.qr(rows) if n > m else (None, rows)
    u, s, v = torch.linalg.svd(r, full_matrices=False)
    kept = s > _RANK_CUT * s[0] if len(s) else s > 0.0
    u, s, v = u[:, kept], s[kept], v[kept]
    known = (u.T @ (right if q is None else q.T @ right)) / s[:, None]
    noise = _noise(rows, right, v.T @ known)
    made = _spread(v, s, known, noise)
    if not rectified:
        return made
    size = known.square().mean().sqrt() if len(s) else torch.zeros(())
    firm = noise.square().mean().sqrt() / s <= _NOISY * size
    if bool(firm.all()) and made.exact:
        return made
    return _completed(made, _spread(v[firm], s[firm], known[firm], noise))


def _noise(rows: Tensor, right: Tensor, solution: Tensor) -> Float[Tensor, " channel"]:
    """Return the error of the equations, by input channel: what they miss, or rounding where they miss nothing."""
    n, m = rows.shape
    size = right.square().mean(0).sqrt()
    if n <= m:
        return ROUNDING * size
    missed = (right - rows @ solution).square().sum(0) / (n - m)
    return missed.sqrt().clamp(min=1e-9 * float(size.max()))


def _spread(v: Tensor, s: Tensor, known: Tensor, noise: Tensor) -> _Class:
    deviation = (v.square() / s.square()[:, None]).sum(0).sqrt()[:, None] * noise[None]
    told = noise.square().mean().sqrt() / s
    return _Class(v.T @ known, deviation, v, known, told, len(s) == v.shape[1], 0.0)


def _completed(all_: _Class, firm: _Class) -> _Class:
    """Let signs decide what is not firmly known, in the channels in which they do."""
    v = firm.projections
    free = torch.linalg.qr(v.T, mode="complete").Q[:, len(v) :]
    if free.shape[1] > _MOST_FREE * v.shape[1]:
        return all_
    made = complete(firm.solution, free, firm.deviation)
    below = made.value.clamp(max=0.0).norm(dim=0) / made.value.norm(dim=0).clamp(min=1e-300)
    settled = made.unique & (below < _NEGATIVE)
    if not all_.exact and not bool(settled.all()):
        return all_
    solution = torch.where(settled, made.value, all_.solution)
    deviation = torch.where(settled, made.deviation, all_.deviation)
    negative = float(made.value[:, settled].clamp(max=0.0).norm() / solution.norm().clamp(min=1e-300))
    return _Class(solution, deviation, all_.projections, all_.known, all_.noise, True, negative)


def _repaired(made: Solved, right: Tensor, weight: Tensor) -> tuple[tuple[MaskedReading, ...], int]:
    """Return the readings with the units flipped that the misfit asks for, and their number."""
    held, changed, offset = [], 0, 0
    for reading in made.readings:
        count = math.prod(_shape(reading))
        at = slice(offset, offset + count)
        offset += count
        if reading.units is None or not bool((reading.units != 0.0).any()):
            held.append(reading)
            continue
        rows = equation_rows(reading.operation, reading.cotangent.double(), _ENTRIES)
        assert rows is not None
        missed = (right[at] - rows @ columns(made.value, reading.operation)) * weight[at, None]
        which = _wrong(reading, made.value, missed, weight[at])
        changed += int(which.sum())
        held.append(reading.flipped(which) if bool(which.any()) else reading)
    return tuple(held), changed


def _shape(reading: MaskedReading) -> tuple[int, int]:
    """Return output channels and taps of a reading's weight."""
    settings = reading.operation.convolution
    channels = columns(reading.cotangent, reading.operation).shape[1]
    return channels, 1 if settings is None else math.prod(settings["weight"].shape[2:])


def _wrong(reading: MaskedReading, value: Tensor, missed: Tensor, weight: Tensor) -> Tensor:
    """Return the undecided units on the wrong side, shaped as the operation's output."""
    operation = reading.operation
    channels, taps = _shape(reading)
    assert reading.units is not None
    assert reading.open is not None
    units, open_ = (columns(v, operation).T for v in (reading.units, reading.open))
    misfit = missed.reshape(channels, taps, -1)
    size = misfit.flatten(1).norm(dim=1)
    suspect = (size > _OUTLIER * size.quantile(_QUIET)) & (units != 0.0).any(1)
    which = torch.zeros_like(open_)
    if not bool(suspect.any()):
        return from_columns(which.T, operation, reading.cotangent)
    read = columns(value, operation)
    spare = torch.cat([read, torch.zeros_like(read[:1])])
    settings = operation.convolution
    taken = torch.arange(len(read))[None] if settings is None else tap_positions(operation, settings)
    for channel in suspect.nonzero().flatten().tolist():
        at = (units[channel] != 0.0).nonzero().flatten()
        if len(at) > _UNDECIDED:
            continue
        patches = spare[torch.where(taken[:, at] < 0, len(read), taken[:, at])]
        adds = (patches * (units[channel, at] * weight[channel * taps])[None, :, None]).permute(0, 2, 1).flatten(0, 1)
        share = torch.linalg.lstsq(adds, misfit[channel].flatten()[:, None], driver="gelsd").solution[:, 0]
        left = float((misfit[channel].flatten() - adds @ share).norm() / size[channel])
        towards = torch.where(open_[channel, at], -share, share)
        if 1.0 - left**2 >= _GAIN:
            which[channel, at] = (towards > _FLIP[0]) & (towards < _FLIP[1])
    return from_columns(which.T, operation, reading.cotangent)
