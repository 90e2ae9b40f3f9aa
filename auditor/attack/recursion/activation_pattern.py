"""Which units of a convolution were open, read off its own weight gradient where the head averages over positions.

Behind an average over positions, the gradient at a convolution's output is v_c m_cp: known numbers v_c, one for each
channel, times the mask m of open units. So dW = sum_p (v * m_p) a_p', a_p the patches of the input, and with fewer
positions than channels its row space is the span of the patches. Of that span, patches are the rays that are nowhere
negative and mostly zero, as inputs behind a ReLU are. One of them shares entries with its neighbours and so gives
them away by linear algebra. Each patch fixes its own mask through the public weights, and that mask must then lie in
the column space of dW: a check that a wrong patch does not pass. Derived for this project; the two spaces of a masked
product are used by SPEAR (Dimitrov et al. 2024, arXiv 2403.03945) for batches.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from scipy.optimize import linprog
from torch import Tensor

# Directions whose singular value clears what lies beyond the number of positions by this factor are signal.
_CLEARS = 30.0
# Largest distance of a mask from the column space, relative to its length: measured 1e-7 to 3e-6 for true masks, and
# above 2e-2 for others.
_IN_SPACE = 1e-3
# Largest disagreement of a patch with what its neighbours say of it, relative to its size.
_AGREES = 1e-2
# The same for the mean of the patches of positions that share a mask.
_ALIKE = 5e-2
# A solution of the shared entries counts them as independent above this share of an orthonormal basis.
_INDEPENDENT = 1e-3
# An entry is taken for zero below this share of the mean input.
_ZERO = 1e-3
# Weight of an entry in the linear programme: 1 / (expected + this), in units of the mean input.
_SMALL = 0.05
# Slack of the scale that a patch is found at beyond the interval that its mask allows.
_SLACK = 1.02


@dataclass(frozen=True)
class Units:
    """A layer of ReLU units over positions, as the public model gives it.

    Attributes
    ----------
    weight, bias
        Of the affine map from a patch to what the ReLU is given (a BatchNorm in eval mode included).
    gate
        v: gradient at the convolution's output where all units are open.
    index
        Which input position each tap of each position reads; -1 is padding.
    expected
        Mean input over clips drawn from a prior; never looked up in the update.
    positive
        Input channels that are never negative (behind a ReLU).
    """

    weight: Float[Tensor, "channel patch"]
    bias: Float[Tensor, " channel"]
    gate: Float[Tensor, " channel"]
    index: Int[Tensor, "tap position"]
    expected: Float[Tensor, "place input"]
    positive: Bool[Tensor, " input"]

    def patches(self, values: Tensor, padding: float | bool) -> Tensor:
        """Cut (place, input) into (position, input * tap), as the weight reads it."""
        spare = torch.full_like(values[:1], padding)
        index = torch.where(self.index < 0, len(values), self.index)
        return torch.cat([values, spare])[index.T].transpose(1, 2).reshape(index.shape[1], -1)

    def masks(self, values: Float[Tensor, "place input"]) -> Bool[Tensor, "channel position"]:
        """Return which units open for this input."""
        return (self.weight @ self.patches(values, 0.0).T + self.bias[:, None]) > 0.0


def activation_pattern(
    units: Units, gradient: Float[Tensor, "channel patch"]
) -> Bool[Tensor, "channel position"] | None:
    """Return the mask of every position, or None where the gradient does not give it away.

    Positions that look alike may share a mask; then only the mean of their patches is in the gradient, and the last
    round takes it for each of them. The answer may be wrong: whoever asks checks that dW then has a solution.
    """
    channels, positions = len(gradient), units.index.shape[1]
    if positions >= channels or not bool(units.positive.any()) or not bool((units.gate != 0.0).any()):
        return None
    search = _PatternSearch(units, gradient)
    for agrees in (_AGREES, _AGREES, _AGREES, _ALIKE):
        search.round(agrees)
    if not search.found:
        return None
    masks = units.masks(search.values)
    shared = [found.mask for found in search.found.values() if found.shared > 1]
    for position in range(masks.shape[1]):
        if position in search.found:
            masks[:, position] = search.found[position].mask
        elif shared:
            masks[:, position] = min(shared, key=lambda mask: int((mask != masks[:, position]).sum()))
    return masks


@dataclass(frozen=True)
class _Found:
    """The mask of a position, its patch, and how many positions share that mask (the patch is then their mean)."""

    mask: Tensor
    patch: Tensor
    shared: int


class _PatternSearch:
    def __init__(self, units: Units, gradient: Tensor) -> None:
        self._units, self._gradient = units, gradient
        self._positions = units.index.shape[1]
        u, s, vh = torch.linalg.svd(gradient, full_matrices=False)
        self._noise = float(s[self._positions])
        rank = int((s[: self._positions] > _CLEARS * self._noise).sum())
        self._columns, self._sizes, self._rows = u[:, :rank], s[:rank], vh[:rank].T
        self._basis = self._rows
        self._scale = float(units.expected.abs().mean())
        self._signed = ~units.positive.repeat_interleave(units.index.shape[0])
        self.values = units.expected.clone()
        self._known = torch.zeros_like(units.expected, dtype=torch.bool)
        self.found: dict[int, _Found] = {}

    def round(self, agrees: float) -> None:
        """Try every position that is left, those of which most is known first."""
        for position in self._order():
            if self._basis.shape[1] == 0:
                return
            patch = self._candidate(position, agrees)
            made = None if patch is None else self._certified(patch)
            if made is not None:
                self._accept(position, made)

    def _order(self) -> Iterator[int]:
        """Yield positions; what is known changes on the way."""
        tried: set[int] = set(self.found)
        while len(tried) < self._positions:
            known = self._units.patches(self._known, True).sum(1)
            known[list(tried)] = -1
            best = int(known.argmax())
            tried.add(best)
            yield best

    def _candidate(self, position: int, agrees: float) -> Tensor | None:
        """Return the patch that agrees with what is known of it and is nowhere negative, as sparse as possible."""
        known = self._units.patches(self._known, True)[position]
        seen = self._units.patches(self.values, 0.0)[position]
        basis = self._basis
        zero = seen[known].abs() <= _ZERO * self._scale
        if bool((~zero).any()):
            start, free = _solved(basis[known], seen[known])
            if float((basis[known] @ start - seen[known]).norm()) > agrees * float(seen[known].norm()):
                return None  # its patch is not in the space: it may share its mask with another position
        else:
            _, free = _solved(basis[known], seen.new_zeros(int(known.sum())))
            start = None
        if free.shape[1] == 0:
            return None if start is None else basis @ start
        bound = ~known & ~self._signed
        cost = (1.0 / (seen.clamp(min=0.0) / self._scale + _SMALL))[bound]
        inner = basis[bound] @ free
        offset = 1e-6 + (0.0 if start is None else _ZERO * self._scale + basis[bound] @ start)
        rows, limit = inner.cpu().numpy(), torch.as_tensor(offset).expand(len(inner)).cpu().numpy()
        unit = {} if start is not None else {"A_eq": inner.sum(0).cpu().numpy()[None], "b_eq": [1.0]}
        made = linprog((cost @ inner).cpu().numpy(), A_ub=-rows, b_ub=limit, bounds=(None, None), **unit)
        if made.x is None:
            return None
        step = free @ torch.from_numpy(made.x).to(free)
        return basis @ (step if start is None else start + step)

    def _certified(self, patch: Tensor) -> _Found | None:
        """Return what a ray stands for, or None where no size of it explains the gradient.

        Along a ray the mask changes only where a unit's answer crosses zero; of all masks on it the one that lies in
        the column space is right, and the size follows from the gradient. Positions of one mask come as the sum of
        their patches; their mean has that mask too, since the patches that open given units are a convex set.
        """
        units = self._units
        norm = float(patch.norm())
        if norm == 0.0:
            return None
        patch = patch / norm
        slope = units.weight @ patch
        crossings = -units.bias / torch.where(slope == 0.0, torch.full_like(slope, 1e-30), slope)
        crossings = crossings[crossings > 0.0].sort().values
        edges = torch.cat([crossings.new_zeros(1), crossings, crossings.new_full((1,), torch.inf)])
        inner = torch.cat([(edges[1:-1] + edges[:-2]) / 2.0, 2.0 * edges[-2:-1] + 1.0])
        masks = (slope * inner[:, None] + units.bias) > 0.0
        directions = masks * units.gate
        size = directions.norm(dim=1).clamp(min=1e-300)
        inside = (directions @ self._columns) @ self._columns.T
        off = torch.where(masks.any(1), (directions - inside).norm(dim=1) / size, torch.ones_like(size))
        for best in (off < _IN_SPACE).nonzero().flatten().tolist():
            along = float((self._rows.T @ patch) @ ((self._columns.T @ directions[best]) / self._sizes))
            low, high = float(edges[best]) / _SLACK, float(edges[best + 1]) * _SLACK
            for shared in range(1, self._positions + 1):
                if along > 0.0 and low <= 1.0 / (along * shared) <= high:
                    return _Found(masks[best], patch / (along * shared), shared)
        return None

    def _accept(self, position: int, made: _Found) -> None:
        """Take what was found out of the row space, and note what it says of the neighbours."""
        self.found[position] = made
        directions = torch.stack([f.mask * self._units.gate for f in self.found.values()])
        taken = torch.linalg.qr(directions.T)[0]
        _, s, vh = torch.linalg.svd(self._gradient - taken @ (taken.T @ self._gradient), full_matrices=False)
        self._basis = vh[: int((s[: self._positions] > _CLEARS * self._noise).sum())].T
        taps = self._units.index[:, position]
        inside = taps >= 0
        value = made.patch.view(-1, len(taps)).T[inside]
        new = ~self._known[taps[inside]]
        value = torch.where(self._units.positive, value.clamp(min=0.0), value)
        self.values[taps[inside]] = torch.where(new, value, self.values[taps[inside]])
        if made.shared == 1:
            self._known[taps[inside]] = True


def _solved(matrix: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Return the least-squares solution of least norm, and a basis of what it leaves free."""
    if len(matrix) == 0:
        return right.new_zeros(matrix.shape[1]), torch.eye(matrix.shape[1], dtype=matrix.dtype, device=matrix.device)
    u, s, vh = torch.linalg.svd(matrix, full_matrices=len(matrix) < matrix.shape[1])
    rank = int((s > _INDEPENDENT).sum())
    if vh.shape[0] < vh.shape[1]:
        vh = torch.linalg.svd(matrix, full_matrices=True)[2]
    return vh[:rank].T @ ((u[:, :rank].T @ right) / s[:rank]), vh[rank:].T
