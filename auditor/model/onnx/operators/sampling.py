"""Sampling at real-valued positions by gathering pixels: grid_sample of torch lacks second derivatives."""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from auditor.model.onnx.graph import Node
from auditor.model.onnx.operators.registry import Function, UnsupportedError, builtin, integers

MODES = {"linear": "linear", "bilinear": "linear", "nearest": "nearest", "cubic": "cubic", "bicubic": "cubic"}
PADDINGS = ("zeros", "border", "reflection")
CUBIC = -0.75


@builtin("GridSample")
def _grid_sample(node: Node) -> Function:
    mode, padding = node.attributes.get("mode", "linear"), node.attributes.get("padding_mode", "zeros")
    aligned = bool(node.attributes.get("align_corners", 0))
    if mode not in MODES or padding not in PADDINGS:
        raise UnsupportedError(f"GridSample in mode {mode} with padding {padding}")
    return lambda x, grid: grid_sample(x, grid, MODES[mode], padding, aligned)


def grid_sample(x: Tensor, grid: Tensor, mode: str, padding: str, aligned: bool) -> Tensor:
    """Sample pixels at normalised positions; twice differentiable in pixels and (but for `nearest`) in positions.

    Parameters
    ----------
    x
        (N, C, D1, ..., Dr).
    grid
        (N, P1, ..., Pr, r) in [-1, 1], last axis first: as `torch.nn.functional.grid_sample` has it.
    mode
        linear, nearest or cubic.
    padding
        zeros, border or reflection.
    aligned
        True when -1 and 1 are the centres of the outermost pixels, not their outer edges.

    Returns
    -------
    (N, C, P1, ..., Pr)
    """
    sizes = x.shape[2:]
    positions = grid.reshape(grid.shape[0], -1, len(sizes)).flip(-1)
    taps = [_taps(positions[..., i], size, mode, padding, aligned) for i, size in enumerate(sizes)]
    flat = x.flatten(2)
    total = x.new_zeros(*x.shape[:2], positions.shape[1])
    for combination in itertools.product(*taps):
        weight = math.prod(weight for _, weight in combination)
        index = torch.zeros_like(combination[0][0])
        for (row, _), size in zip(combination, sizes, strict=True):
            index = index * size + row
        picked = flat.gather(2, index[:, None].expand(-1, x.shape[1], -1))
        total = total + picked * weight[:, None]  # type: ignore[index]
    return total.reshape(*x.shape[:2], *grid.shape[1:-1])


def _taps(position: Tensor, size: int, mode: str, padding: str, aligned: bool) -> list[tuple[Tensor, Tensor]]:
    """Return the pixels that one axis reads and their weights."""
    at = (position + 1) / 2 * (size - 1) if aligned else ((position + 1) * size - 1) / 2
    if mode != "cubic" and padding == "border":
        at = at.clamp(0, size - 1)
    elif mode != "cubic" and padding == "reflection":
        at = _reflected(at, size, aligned)
    if mode == "nearest":
        at = at.round()
        return [_inside(at, torch.ones_like(at), size, padding, aligned)]
    base = at.detach().floor()
    t = at - base
    if mode == "linear":
        weights: Sequence[tuple[int, Tensor]] = [(0, 1 - t), (1, t)]
    else:
        weights = [(-1, _far(1 + t)), (0, _near(t)), (1, _near(1 - t)), (2, _far(2 - t))]
    return [_inside(base + offset, weight, size, padding, aligned) for offset, weight in weights]


def _near(t: Tensor) -> Tensor:
    return ((CUBIC + 2) * t - (CUBIC + 3)) * t * t + 1


def _far(t: Tensor) -> Tensor:
    return ((CUBIC * t - 5 * CUBIC) * t + 8 * CUBIC) * t - 4 * CUBIC


def _inside(row: Tensor, weight: Tensor, size: int, padding: str, aligned: bool) -> tuple[Tensor, Tensor]:
    if padding == "zeros":
        weight = torch.where((row < 0) | (row > size - 1), torch.zeros_like(weight), weight)
    elif padding == "reflection":
        row = _reflected(row, size, aligned)
    return row.detach().clamp(0, size - 1).round().long(), weight


def _reflected(at: Tensor, size: int, aligned: bool) -> Tensor:
    """Fold positions back at the outermost centres (aligned) or edges."""
    low, span = (0.0, size - 1.0) if aligned else (-0.5, float(size))
    if span == 0:
        return torch.zeros_like(at)
    away = (at - low).abs()
    turns = (away / span).detach().floor()
    rest = away - turns * span
    return torch.where(turns % 2 == 0, rest + low, span + low - rest)


@builtin("AffineGrid", numbers=(1,))
def _affine_grid(node: Node) -> Function:
    aligned = bool(node.attributes.get("align_corners", 0))

    def affine_grid(theta: Tensor, size: Tensor) -> Tensor:
        _, _, *extents = integers(size) or ()
        axes = []
        for extent in extents:
            steps = torch.arange(extent, dtype=theta.dtype, device=theta.device)
            if aligned:
                axes.append(steps * (2 / (extent - 1)) - 1 if extent > 1 else torch.zeros_like(steps))
            else:
                axes.append((2 * steps + 1) / extent - 1)
        mesh = torch.meshgrid(*axes, indexing="ij")
        points = torch.stack([*reversed(mesh), torch.ones_like(mesh[0])], -1)
        moved = points.reshape(-1, points.shape[-1]) @ theta.transpose(1, 2)
        return moved.reshape(theta.shape[0], *extents, len(extents))

    return affine_grid
