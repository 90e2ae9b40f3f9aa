"""Grouped convolutions: each group reads channels of its own, so its equations are solved alone."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from auditor.attack.recursion.masked_system import Solved, solve
from auditor.attack.recursion.masks.masked_reading import MaskedReading
from auditor.attack.recursion.subnetwork import CONVOLUTIONS, Operation


def solve_value(readings: Sequence[MaskedReading], rectified: bool = False) -> Solved | str:
    """Solve the stacked equations of all readings (`masked_system.solve`), group by group where channels are grouped.

    A group of C / g output channels gives taps * C / g equations for each of its input channels, so that a depthwise
    convolution gives no more than it has taps. What a group leaves open ends it.
    """
    groups = {reading.groups for reading in readings}
    if groups == {1}:
        return solve(readings, rectified)
    names = " and ".join(reading.operation.weight for reading in readings)
    if len(groups) > 1:
        return f"{names} read what they share in different groups"
    made = [solve([_group(r, n) for r in readings], rectified) for n in range(min(groups))]
    failed = next((one for one in made if isinstance(one, str)), None)
    solved = [one for one in made if isinstance(one, Solved)]
    if failed is not None:
        return failed
    few = min(solved, key=lambda one: (one.exact, len(one.projections)))
    if not few.exact:
        rank, positions = few.projections.shape
        return f"{names} gives each of {min(groups)} groups {rank} equations for {positions} positions of a channel"
    return replace(
        few,
        value=torch.cat([one.value for one in solved], 1),
        deviation=torch.cat([one.deviation for one in solved], 1),
        residual=max(one.residual for one in solved),
        readings=tuple(_joined(r, [one.readings[n] for one in solved]) for n, r in enumerate(readings)),
        flips=sum(one.flips for one in solved),
    )


def _group(reading: MaskedReading, number: int) -> MaskedReading:
    """Return the reading of one group, as a convolution without groups."""
    settings = reading.operation.convolution
    assert settings is not None

    def part(value: Tensor, axis: int) -> Tensor:
        return value.chunk(reading.groups, axis)[number]

    weight = part(settings["weight"], 0)
    told = {name: settings[name] for name in ("stride", "padding", "dilation")}
    read, out = part(reading.operation.input, 1), part(reading.operation.output, 1)
    function: Callable[..., Tensor] = CONVOLUTIONS[settings["axes"]]
    return MaskedReading(
        operation=Operation(reading.operation.weight, function, (read, weight), told, 0, read, out),
        cotangent=part(reading.cotangent, 1),
        gradient=part(reading.gradient, 0),
        units=None if reading.units is None else part(reading.units, 1),
        open=None if reading.open is None else part(reading.open, 1),
    )


def _joined(reading: MaskedReading, parts: Sequence[MaskedReading]) -> MaskedReading:
    """Return the reading with units as its groups decided them."""
    cotangent = torch.cat([part.cotangent for part in parts], 1)
    opened = [part.open for part in parts if part.open is not None]
    return replace(reading, cotangent=cotangent, open=torch.cat(opened, 1) if opened else None)
