"""Weight gradients as equations in what their layers read, where some units above may be open or closed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from auditor.attack.recursion.masks.mask_repair import repaired
from auditor.attack.recursion.masks.masked_reading import MaskedReading
from auditor.attack.recursion.sign_completion import complete
from auditor.attack.recursion.weight_system import ROUNDING, columns, from_columns, obstacle, right_side
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
# A value above this many deviations is open; between these two it is left to the next equations. Measured on r3d_18 at
# 8x32x32 to 16x112x112: the largest value of a closed unit is 5 to 7 deviations, calibrated.
_OPEN, _LOW, _HIGH = 8.0, 2.0, 60.0
# Multiplications of the largest decomposition (minutes on one core).
MOST_WORK = 4e11


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
        held, changed = repaired(made.readings, made.value, torch.cat(right), weight, made.classes)
        if not changed:
            break
        made, flips = _solved(held, torch.cat(right), weight, rectified), flips + changed
    return made if isinstance(made, str) else replace(made, flips=flips)


def recovered_input(made: Solved, sought: bool = False) -> RecoveredInput:
    """Return how far equations came with a value, for people."""
    rank, positions = made.projections.shape
    equations = sum(reading.equations for reading in made.readings)
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
    parts = [r.rows() for r in readings]
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
