"""Units that equations show on the wrong side, by what the equations miss."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from auditor.attack.recursion.masks.masked_reading import MaskedReading
from auditor.attack.recursion.pooled_units import tap_positions
from auditor.attack.recursion.weight_system import ROUNDING, columns, from_columns
from auditor.solvers.least_norm import least_norm

# Rows of an output channel that miss this many times what a quiet channel misses hold a unit that is wrong.
_OUTLIER, _QUIET = 3.0, 0.25
# What of a misfit undecided units must explain, and the coefficient that means "the other way".
_GAIN, _FLIP = 0.2, (0.5, 1.8)
# More undecided units than this in one channel are not told apart.
_UNDECIDED = 60
# A misfit below this many times rounding holds no wrong unit: measured 1e-7 to 3e-7 without, 1e-3 with one.
_QUIET_MISFIT = 10.0


def repaired(
    readings: Sequence[MaskedReading], value: Tensor, right: Tensor, weight: Tensor, classes: Sequence[Tensor]
) -> tuple[tuple[MaskedReading, ...], int]:
    """Return the readings with the units flipped that the misfit asks for, and their number.

    Channel by channel where equations are many times the positions: there the misfit of a wrong unit stays in its own
    output channel. Else the solution takes most of it up and spreads the rest, and the one unit is flipped whose
    pattern, less what the solution takes up, explains most of what is missed.

    Parameters
    ----------
    value
        Solution of the equations.
    right, weight
        Right-hand sides and weights of all equations, stacked as the readings are.
    classes
        Positions that share no equation with those of other classes.
    """
    rows = _stacked(readings)
    missed = (right - rows @ columns(value, readings[0].operation)) * weight[:, None]
    held, changed = [], 0
    for reading, at in _slices(readings):
        which = _wrong(reading, value, missed[at], weight[at])
        changed += 0 if which is None else int(which.sum())
        held.append(reading if which is None else reading.flipped(which))
    if changed or float(missed.norm()) <= _QUIET_MISFIT * ROUNDING * float((right * weight[:, None]).norm()):
        return tuple(held), changed
    return _with_one_flipped(readings, value, missed, rows, weight, classes)


def _stacked(readings: Sequence[MaskedReading]) -> Tensor:
    parts = [reading.rows() for reading in readings]
    return torch.cat([part for part in parts if part is not None])


def _slices(readings: Sequence[MaskedReading]) -> list[tuple[MaskedReading, slice]]:
    """Return every reading with the place of its equations among all."""
    made, offset = [], 0
    for reading in readings:
        made.append((reading, slice(offset, offset + reading.equations)))
        offset += reading.equations
    return made


class _Undecided:
    """The units that a reading leaves undecided, and what each adds to the equations of its output channel."""

    def __init__(self, reading: MaskedReading, value: Tensor, weight: Tensor) -> None:
        assert reading.units is not None
        assert reading.open is not None
        operation = reading.operation
        self.channels, self.taps = reading.size
        self.units, self.open = (columns(v, operation).T for v in (reading.units, reading.open))
        read = columns(value, operation)
        self._weight = weight.view(self.channels, self.taps)
        self._spare = torch.cat([read, torch.zeros_like(read[:1])])
        settings = operation.convolution
        taken = torch.arange(len(read))[None] if settings is None else tap_positions(operation, settings)
        self._taken = torch.where(taken < 0, len(read), taken)

    def of(self, channel: int) -> Tensor:
        """Return the positions of a channel's undecided units."""
        return (self.units[channel] != 0.0).nonzero().flatten()

    def adds(self, channel: int, at: Tensor) -> Tensor:
        """Return what these units add when open, by unit, tap and input channel."""
        patches = self._spare[self._taken[:, at]].movedim(0, 1)
        return patches * self.units[channel, at][:, None, None] * self._weight[channel][None, :, None]


def _wrong(reading: MaskedReading, value: Tensor, missed: Tensor, weight: Tensor) -> Tensor | None:
    """Return the undecided units on the wrong side, shaped as the operation's output; None where there is none."""
    if reading.units is None or not bool((reading.units != 0.0).any()):
        return None
    undecided = _Undecided(reading, value, weight)
    misfit = missed.reshape(undecided.channels, undecided.taps, -1)
    size = misfit.flatten(1).norm(dim=1)
    suspect = (size > _OUTLIER * size.quantile(_QUIET)) & (undecided.units != 0.0).any(1)
    which = torch.zeros_like(undecided.open)
    for channel in suspect.nonzero().flatten().tolist():
        at = undecided.of(channel)
        if len(at) > _UNDECIDED:
            continue
        adds = undecided.adds(channel, at).flatten(1).T
        share = least_norm(adds, misfit[channel].flatten()[:, None], "gelsd")[:, 0]
        left = float((misfit[channel].flatten() - adds @ share).norm() / size[channel])
        if 1.0 - left**2 >= _GAIN:
            which[channel, at] = _the_other_way(share, undecided.open[channel, at])
    return from_columns(which.T, reading.operation, reading.cotangent) if bool(which.any()) else None


def _the_other_way(share: Tensor, open_: Tensor) -> Tensor:
    towards = torch.where(open_, -share, share)
    return (towards > _FLIP[0]) & (towards < _FLIP[1])


@dataclass(frozen=True)
class _Flip:
    """A unit, and how much of the squared misfit it explains."""

    gain: float
    reading: int
    channel: int
    position: int


def _with_one_flipped(
    readings: Sequence[MaskedReading],
    value: Tensor,
    missed: Tensor,
    rows: Tensor,
    weight: Tensor,
    classes: Sequence[Tensor],
) -> tuple[tuple[MaskedReading, ...], int]:
    taken_up = _column_space(rows * weight[:, None], classes)
    if taken_up is None:
        return tuple(readings), 0
    flips = []
    for number, (reading, at) in enumerate(_slices(readings)):
        if reading.units is not None:
            flips += _flips(number, _Undecided(reading, value, weight[at]), missed[at], taken_up[at])
    best = max(flips, key=lambda flip: flip.gain, default=None)
    if best is None or best.gain < _GAIN * float(missed.square().sum()):
        return tuple(readings), 0
    held, reading = list(readings), readings[best.reading]
    which = torch.zeros_like(columns(reading.cotangent, reading.operation), dtype=torch.bool)
    which[best.position, best.channel] = True
    held[best.reading] = reading.flipped(from_columns(which, reading.operation, reading.cotangent))
    return tuple(held), 1


def _column_space(rows: Tensor, classes: Sequence[Tensor]) -> Tensor | None:
    """Return an orthonormal basis of what right-hand sides the equations can explain; None where that is all."""
    basis = torch.zeros_like(rows)
    for at in classes:
        mine = (rows[:, at] != 0.0).any(1).nonzero().flatten()
        if len(mine) <= len(at):
            return None
        basis[mine[:, None], at[None]] = torch.linalg.qr(rows[mine][:, at])[0]
    return basis


def _flips(number: int, undecided: _Undecided, missed: Tensor, taken_up: Tensor) -> list[_Flip]:
    """Return the best unit of every channel that the misfit wants on its other side."""
    made = []
    for channel in range(undecided.channels):
        at = undecided.of(channel)
        if not len(at):
            continue
        mine = slice(channel * undecided.taps, (channel + 1) * undecided.taps)
        adds = undecided.adds(channel, at)
        left = torch.eye(undecided.taps).to(adds) - taken_up[mine] @ taken_up[mine].T
        size = torch.einsum("uti,ts,usi->u", adds, left, adds).clamp(min=1e-300)
        along = torch.einsum("uti,ti->u", adds, missed[mine])
        gain = torch.where(_the_other_way(along / size, undecided.open[channel, at]), along.square() / size, 0.0)
        best = int(gain.argmax())
        made.append(_Flip(float(gain[best]), number, channel, int(at[best])))
    return made
