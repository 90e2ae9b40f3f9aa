"""Which units are open behind an average over positions: the corner's patch first, then its neighbours."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from auditor.attack.recursion.masks.binary_masks import MOST_IMAGES, masks_among
from auditor.attack.recursion.pooled_units import tap_positions
from auditor.attack.recursion.subnetwork import Operation
from auditor.attack.recursion.weight_system import obstacle
from auditor.solvers.least_norm import least_norm

# Gates below this share of the largest carry no equation worth having.
_SILENT = 1e-5
# Patches whose singular values fall below this share of the largest are not told apart.
_ALIKE = 1e-6


@dataclass(frozen=True)
class PeeledMasks:
    """Which units are open behind an average.

    Attributes
    ----------
    masks, undecided
        Shaped as the operation's output; of an undecided unit the gradient says too little.
    off
        The largest distance of what was solved for from 0 and 1.
    loose
        Axes of the output whose order is not known: the kernel never reads across them, and the average counts all
        alike, so the gradient is the same for every order.
    """

    masks: Bool[Tensor, "..."]
    undecided: Bool[Tensor, "..."]
    off: float
    loose: tuple[int, ...]

    def ordered(self, order: Sequence[int]) -> "PeeledMasks":
        """Return the masks with the places along the loose axes in this order, which then counts as known."""
        rest = tuple(a for a in range(self.masks.dim()) if a not in self.loose)
        axes = (*self.loose, *rest)

        def moved(value: Tensor) -> Tensor:
            there = value.permute(axes)
            flat = there.reshape(len(order), -1)[list(order)].reshape(there.shape)
            return flat.permute([axes.index(a) for a in range(len(axes))]).contiguous()

        return PeeledMasks(moved(self.masks), moved(self.undecided), self.off, ())


def peel_corners(operation: Operation, gates: Tensor, gradient: Tensor) -> PeeledMasks | str:
    """Return the masks of units that an average lies behind, from the weight gradient of the convolution before them.

    Parameters
    ----------
    gates
        The loss's gradient at the convolution's output where all units are open, shaped as it; the same at all
        positions that the kernel reads across.

    dW / gate = M X, with the masks M (channel, position) and the patches X of what the convolution read. In the row
    space of X only the patch of a corner vanishes at all taps that read padding there. It holds the values of its
    neighbours, whose patches follow by least squares, and so on; then M = dW X^+. Linear algebra alone, for as many
    positions as there are channels. Where the kernel does not read across an axis (frames of one 2-D net, clips of a
    batch), each of its n images has a corner: blocks of n patches are found up to one mixing, which the two values of
    masks undo (`masks_among`). Derived for this project.
    """
    why = obstacle(operation)
    settings = operation.convolution
    if settings is None or why is not None:
        return f"{operation.weight} is {why or 'no convolution'}"
    taken = tap_positions(operation, settings)
    positions, shape = taken.shape[1], operation.output.shape
    if operation.input.shape[2:] != shape[2:]:
        return f"{operation.weight} walks in strides"
    walk = _Walk.of(operation, settings["weight"].shape[2:])
    spread = walk.images_first(gates.double())[:, 0].T  # (channel, image)
    size = spread.abs().amax(1)
    audible = size > _SILENT * float(size.max())
    if positions > min(int(audible.sum()), operation.input.shape[1] * taken.shape[0]):
        return f"{positions} positions stand against {min(int(audible.sum()), operation.input.shape[1])} channels"
    if prod(walk.grid) > 1 and not bool((taken < 0).any()):
        return f"{operation.weight} reads no padding"
    if walk.images > MOST_IMAGES:
        return f"{walk.images} images at {operation.weight}, too many for all binary patterns"
    matrix = gradient.double().flatten(2)[audible] / size[audible, None, None]
    patches = _CornerPeeling(matrix, walk.taps(taken), walk.images, walk.grid)
    if not patches.told_apart:
        return f"the patches that {operation.weight} reads are not told apart by its gradient"
    basis = patches.found()
    mixed = least_norm(basis.flatten(1).T, matrix.flatten(1).T, "gelsd").T
    mixed = mixed.reshape(len(matrix), -1, walk.images)
    found = masks_among(mixed, spread[audible] / size[audible, None])
    if isinstance(found, str):
        return f"the masks above {operation.weight}: {found}"
    masks = torch.ones(len(size), *found.masks.shape[1:], dtype=torch.bool)
    undecided = torch.zeros_like(masks)
    masks[audible], undecided[audible] = found.masks, found.undecided
    loose = tuple(a for a in walk.free if shape[a] > 1 and _alike(gates, a))
    return PeeledMasks(walk.restored(masks), walk.restored(undecided), found.off, loose)


def _alike(gates: Tensor, axis: int) -> bool:
    first = gates.narrow(axis, 0, 1)
    return float((gates - first).abs().max()) <= _SILENT * float(gates.abs().max())


@dataclass(frozen=True)
class _Walk:
    """Which axes of an output a kernel reads across (`coupled`), and which it does not (`free`): images of a grid."""

    shape: tuple[int, ...]
    free: tuple[int, ...]
    coupled: tuple[int, ...]

    @classmethod
    def of(cls, operation: Operation, kernel: tuple[int, ...]) -> "_Walk":
        shape = tuple(operation.output.shape)
        coupled = tuple(2 + i for i, k in enumerate(kernel) if k > 1 and shape[2 + i] > 1)
        free = tuple(a for a in (0, *range(2, len(shape))) if a not in coupled)
        return cls(shape, free, coupled)

    @property
    def images(self) -> int:
        return prod(self.shape[a] for a in self.free)

    @property
    def grid(self) -> tuple[int, ...]:
        return tuple(self.shape[a] for a in self.coupled) or (1,)

    def images_first(self, value: Tensor) -> Float[Tensor, "image position channel"]:
        return value.permute(*self.free, *self.coupled, 1).reshape(self.images, prod(self.grid), -1)

    def taps(self, taken: Int[Tensor, "tap position"]) -> Int[Tensor, "tap position"]:
        """Return what each tap reads, of one image: places within its grid, or -1 for padding."""
        place = torch.arange(taken.shape[1]).reshape(self.shape[0], 1, *self.shape[2:])
        mine = self.images_first(place)[0, :, 0]
        where = torch.full((taken.shape[1] + 1,), -1)
        where[mine] = torch.arange(len(mine))
        return where[taken[:, mine]]

    def restored(self, masks: Bool[Tensor, "channel position image"]) -> Bool[Tensor, "..."]:
        axes = (*self.free, *self.coupled, 1)
        there = masks.permute(2, 1, 0).reshape([self.shape[a] for a in axes])
        return there.permute([axes.index(a) for a in range(len(axes))]).contiguous()


class _CornerPeeling:
    """Blocks of patches (image, input channel, tap) at one common mixing of the images, found from a corner."""

    def __init__(self, matrix: Tensor, taken: Int[Tensor, "tap position"], images: int, grid: tuple[int, ...]) -> None:
        self._taken, self._images, self._grid = taken, images, grid
        self._positions = taken.shape[1]
        _, inputs, taps = matrix.shape
        rank = images * self._positions
        q, r = torch.linalg.qr(matrix.flatten(1).T)
        _, s, v = torch.linalg.svd(r.T, full_matrices=False)
        self.told_apart = len(s) >= rank and float(s[rank - 1]) > _ALIKE * float(s[0])
        self._space = ((s[:rank, None] * v[:rank]) @ q.T).reshape(-1, inputs, taps)
        self._values = matrix.new_zeros(self._positions, images, inputs)
        self._times = torch.zeros(self._positions)
        self._blocks: dict[int, Tensor] = {}

    def found(self) -> Float[Tensor, "row channel tap"]:
        """Return all blocks, position by position and image by image."""
        self._accept(*self._corner())
        while len(self._blocks) < self._positions:
            at = self._next()
            known = self._known(at).nonzero().flatten()
            source = self._taken[known, at]
            values = torch.cat([self._values, torch.zeros_like(self._values[:1])])
            wanted = values[torch.where(source < 0, self._positions, source)].permute(1, 2, 0).flatten(1)
            space = self._space[:, :, known].flatten(1)
            share = least_norm(space.T, wanted.T, "gelsd")
            self._accept(at, torch.einsum("pn,pit->nit", share, self._space))
        return torch.cat([self._blocks[p] for p in range(self._positions)])

    def _corner(self) -> tuple[int, Tensor]:
        """Return the corner whose patches stand out best from all others, and those."""
        best: tuple[float, int, Tensor] | None = None
        place = torch.arange(self._positions).reshape(self._grid)
        for ends in product(*({0, n - 1} for n in self._grid)):
            at = int(place[ends])
            outside = self._taken[:, at] < 0
            space = self._space[:, :, outside].flatten(1)
            u, s, _ = torch.linalg.svd(space @ space.T)
            gap = float(s[-self._images - 1] / s[0]) if len(s) > self._images else 1.0
            if best is None or gap > best[0]:
                best = (gap, at, u[:, -self._images :])
        assert best is not None
        block = torch.einsum("pn,pit->nit", best[2], self._space)
        return best[1], block / block.flatten(1).norm(dim=1).max()

    def _known(self, at: int) -> Tensor:
        source = self._taken[:, at]
        return (source < 0) | (self._times[source.clamp(min=0)] > 0)

    def _next(self) -> int:
        left = [p for p in range(self._positions) if p not in self._blocks]
        return max(left, key=lambda p: (bool(self._times[p] > 0), int(self._known(p).sum())))

    def _accept(self, at: int, block: Tensor) -> None:
        self._blocks[at] = block
        source = self._taken[:, at]
        inside = source >= 0
        places = source[inside]
        times = self._times[places].to(block)[:, None, None]
        self._values[places] = (self._values[places] * times + block[:, :, inside].permute(2, 0, 1)) / (times + 1)
        self._times[places] += 1
