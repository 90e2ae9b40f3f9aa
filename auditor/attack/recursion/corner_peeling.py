"""Which units are open behind an average over positions: the corner's patch first, then its neighbours."""

from dataclasses import dataclass
from itertools import product

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from auditor.attack.recursion.pooled_units import tap_positions
from auditor.attack.recursion.subnetwork import Operation
from auditor.attack.recursion.weight_system import obstacle

# Gates below this share of the largest carry no equation worth having.
_SILENT = 1e-5
# Masks come out as 0 and 1 up to this; measured 3e-6, and above 0.1 where a step went wrong.
BINARY = 0.02


@dataclass(frozen=True)
class PeeledMasks:
    """Which units are open, and `off`, the largest distance of what was solved for from 0 and 1."""

    masks: Bool[Tensor, "channel position"]
    off: float


def peel_corners(operation: Operation, gates: Float[Tensor, " channel"], gradient: Tensor) -> PeeledMasks | str:
    """Return the masks of units that an average lies behind, from the weight gradient of the convolution before them.

    Parameters
    ----------
    gates
        The loss's gradient at an output position of the convolution where its unit is open; the same at every position.

    dW / gate = M X, with the masks M (channel, position) and the patches X of what the convolution read. In the row
    space of X only the patch of a corner vanishes at all taps that read padding there. It holds the values of its
    neighbours, whose patches follow by least squares, and so on; then M = dW X^+. Linear algebra alone, for as many
    positions as there are channels. Derived for this project.
    """
    why = obstacle(operation)
    settings = operation.convolution
    if settings is None or why is not None:
        return f"{operation.weight} is {why or 'no convolution'}"
    taken = tap_positions(operation, settings)
    positions, shape = taken.shape[1], operation.output.shape
    audible = gates.abs() > _SILENT * float(gates.abs().max())
    if positions > min(int(audible.sum()), operation.input.shape[1]):
        return f"{positions} positions stand against {min(int(audible.sum()), operation.input.shape[1])} channels"
    if taken.shape[0] == 1 or not bool((taken < 0).any()) or operation.input.shape[2:] != shape[2:]:
        return f"{operation.weight} reads no padding, or walks in strides"
    matrix = gradient.double().flatten(2)[audible] / gates.double()[audible, None, None]
    patches = _CornerPeeling(matrix, taken, shape[0], tuple(shape[2:])).patches()
    found = torch.linalg.lstsq(patches.flatten(1).T, matrix.flatten(1).T, driver="gelsd").solution.T
    scale = found[found.abs() > 0.5 * found.abs().max()].median()
    found = found / scale
    off = float((found - found.round()).abs().max())
    if off > BINARY or bool((found.round().abs() > 1.0).any()):
        return f"the masks above {operation.weight} come out {off:.1g} away from 0 and 1"
    masks = torch.ones(len(gates), positions, dtype=torch.bool)
    masks[audible] = found.round() > 0.5
    return PeeledMasks(masks, off)


class _CornerPeeling:
    """Patches (position, input channel, tap) at one common scale, found one by one from a corner."""

    def __init__(self, matrix: Tensor, taken: Int[Tensor, "tap position"], images: int, grid: tuple[int, ...]) -> None:
        self._taken, self._images, self._grid = taken, images, grid
        self._positions = taken.shape[1]
        _, inputs, taps = matrix.shape
        q, r = torch.linalg.qr(matrix.flatten(1).T)
        _, s, v = torch.linalg.svd(r.T, full_matrices=False)
        space = (s[: self._positions, None] * v[: self._positions]) @ q.T
        self._space = space.reshape(self._positions, inputs, taps)
        self._values = matrix.new_zeros(self._positions, inputs)
        self._times = torch.zeros(self._positions)
        self._found: dict[int, Tensor] = {}

    def patches(self) -> Tensor:
        corner, patch = self._corner()
        self._accept(corner, patch)
        while len(self._found) < self._positions:
            at = self._next()
            known = self._known(at).nonzero().flatten()
            source = self._taken[known, at]
            values = torch.cat([self._values, torch.zeros_like(self._values[:1])])
            wanted = values[torch.where(source < 0, self._positions, source)].T
            space = self._space[:, :, known].flatten(1)
            share = torch.linalg.lstsq(space.T, wanted.reshape(-1, 1), driver="gelsd").solution[:, 0]
            self._accept(at, torch.einsum("p,pit->it", share, self._space))
        return torch.stack([self._found[p] for p in range(self._positions)])

    def _corner(self) -> tuple[int, Tensor]:
        """Return the corner whose patch stands out best from all others, and that patch, no value below zero."""
        best: tuple[float, int, Tensor] | None = None
        place = torch.arange(self._positions).reshape(self._images, *self._grid)
        for ends in product(*({0, n - 1} for n in self._grid)):
            at = int(place[(0, *ends)])
            outside = self._taken[:, at] < 0
            space = self._space[:, :, outside].flatten(1)
            u, s, _ = torch.linalg.svd(space @ space.T)
            gap = float(s[-2] / s[0]) if len(s) > 1 else 1.0
            if best is None or gap > best[0]:
                best = (gap, at, u[:, -1])
        assert best is not None
        patch = torch.einsum("p,pit->it", best[2], self._space)
        patch = patch / patch.abs().max()
        return best[1], patch if float(patch.sum()) > 0.0 else -patch

    def _known(self, at: int) -> Tensor:
        source = self._taken[:, at]
        return (source < 0) | (self._times[source.clamp(min=0)] > 0)

    def _next(self) -> int:
        left = [p for p in range(self._positions) if p not in self._found]
        return max(left, key=lambda p: (bool(self._times[p] > 0), int(self._known(p).sum())))

    def _accept(self, at: int, patch: Tensor) -> None:
        self._found[at] = patch
        source = self._taken[:, at]
        inside = source >= 0
        places = source[inside]
        times = self._times[places].to(patch)[:, None]
        self._values[places] = (self._values[places] * times + patch[:, inside].T) / (times + 1)
        self._times[places] += 1
