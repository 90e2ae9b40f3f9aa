"""The gradient at a convolution's output, where ReLU and an average over positions lie between it and the head."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from auditor.attack.matching.surrogate_gradient import RELUS
from auditor.attack.recursion.activation_pattern import Units, activation_pattern
from auditor.attack.recursion.subnetwork import CONVOLUTIONS, Operation
from auditor.attack.recursion.weight_system import (
    ROUNDING,
    WeightSystem,
    columns,
    from_columns,
    obstacle,
    weight_system,
)

# What is the same at every position up to float32 rounding.
_SAME = 1e-4
# Largest residual of the equations, relative to the gradient, that rounding leaves: measured 1e-7, and above 1e-2 with
# a single wrong unit.
_RESIDUAL = 1e-4


class _Open(TorchFunctionMode):
    """While active, ReLU lets everything through; what it is given is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[Tensor] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Note the input of ReLU and return it; leave everything else alone."""
        given = kwargs or {}
        if func in RELUS:
            self.given.append(args[0] if args else given["input"])
            return self.given[-1]
        return func(*args, **given)


def open_cotangent(
    operation: Operation,
    segment: Callable[[Tensor], Tensor],
    cotangent: Tensor,
    gradient: Tensor,
    inputs: Sequence[Tensor],
    rounding: float = ROUNDING,
) -> tuple[Tensor, WeightSystem] | None:
    """Return the loss's gradient at a convolution's output, and the equations that it makes of the weight's gradient.

    None where the structure of the net or the gradient itself forbids it.

    Parameters
    ----------
    segment
        From the convolution's output to what the head reads.
    cotangent
        The loss's gradient at what the head reads.
    gradient
        Of the convolution's weight, as sent.
    inputs
        What the convolution reads of clips drawn from a prior.

    The answer is checked: the equations that it makes of the weight's gradient must have a solution, and if there is
    only one, it must open the very same units.
    """
    settings = operation.convolution
    if settings is None or obstacle(operation) is not None:
        return None
    found = _affine(operation, segment, cotangent)
    if found is None:
        return None
    slope, offset, gate = found
    drawn = torch.stack([columns(x, operation) for x in inputs]).double()
    units = Units(
        weight=slope[:, None] * settings["weight"].detach().double().flatten(1),
        bias=offset,
        gate=gate,
        index=tap_positions(operation, settings),
        expected=drawn.mean(0),
        positive=(drawn >= 0.0).all(0).all(0),
    )
    masks = activation_pattern(units, gradient.double().flatten(1))
    if masks is None:
        return None
    made = from_columns((gate[:, None] * masks).T, operation, operation.output).to(cotangent)
    system = weight_system(operation, made, gradient, rounding)
    if system is None or system.residual > _RESIDUAL:
        return None
    if not system.exact:
        return made, system
    again = units.masks(columns(system.solution(), operation).double())
    return (made, system) if bool((again == masks).all()) else None


def _affine(
    operation: Operation, segment: Callable[[Tensor], Tensor], cotangent: Tensor
) -> tuple[Tensor, Tensor, Tensor] | None:
    """Return slope and offset of what the one ReLU is given, and the gradient with all units open, by channel.

    None where there is no ReLU or several, or where positions or values differ.
    """
    made = []
    for value in (operation.output.detach(), torch.zeros_like(operation.output)):
        z = value.clone().requires_grad_(True)
        with _Open() as opened, torch.enable_grad():
            out = segment(z)
            reached = [(given, _slope(given, z)) for given in opened.given]
            behind = [(given, slope) for given, slope in reached if slope is not None]
            if len(behind) != 1 or behind[0][0].shape != z.shape or not out.requires_grad:
                return None
            (gate,) = torch.autograd.grad(out, z, cotangent.reshape(out.shape))
        given, slope = behind[0]
        offset = given.detach() - slope * value
        made.append([columns(v, operation).double() for v in (slope, offset, gate)])
    # What the ReLU is given of a patch is slope * (W patch + b) + offset.
    bias = operation(torch.zeros_like(operation.input)).detach()
    made = [[*one, columns(bias, operation).double()] for one in made]
    for first, second in zip(*made, strict=True):
        size = float(first.abs().max())
        if float((first - first[:1]).abs().max()) > _SAME * size or float((first - second).abs().max()) > _SAME * size:
            return None
    slope, offset, gate, shift = (v[0] for v in made[0])
    return slope, slope * shift + offset, gate


def _slope(value: Tensor, z: Tensor) -> Tensor | None:
    """Return the derivative of a value's sum, or None where it does not depend on z."""
    if not value.requires_grad:
        return None
    (slope,) = torch.autograd.grad(value.sum(), z, retain_graph=True, allow_unused=True)
    return slope


def tap_positions(operation: Operation, settings: dict[str, Any]) -> Tensor:
    """Return which position of the input each tap of each output position reads; -1 is padding."""
    shape, kernel, n = operation.input.shape, settings["weight"].shape[2:], settings["axes"]
    taps = int(torch.tensor(kernel).prod())
    count = shape[0] * int(torch.tensor(shape[2:]).prod())
    image = torch.arange(1, count + 1, dtype=torch.float64).view(shape[0], 1, *shape[2:])
    pick = torch.eye(taps, dtype=torch.float64).view(taps, 1, *kernel)
    read = CONVOLUTIONS[n](image, pick, None, settings["stride"], settings["padding"], settings["dilation"])
    return read.movedim(1, 0).reshape(taps, -1).round().long() - 1
