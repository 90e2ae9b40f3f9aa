"""Masks of several images from a mixture of them: what takes but two values in every channel is a mask."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from scipy.linalg import qr
from torch import Tensor

# All patterns of as many rows as there are images are tried: a million.
MOST_IMAGES = 20
# Masks come out as 0 and 1 up to this; measured 3e-6, and above 0.1 where a step went wrong.
BINARY = 0.02
# A wrong pattern would have to miss fewer of these rows than that by chance.
_TRIED, _CLOSE = 400, 0.1
# Channels that hear an image less than this share of the loudest image tell its pattern badly.
_LOUD = 0.1
# Below this share, rounding decides.
_FAINT = 3e-4
_CHUNK = 4096


@dataclass(frozen=True)
class BinaryMasks:
    """Masks by image; `off`, their largest distance from 0 and 1 before rounding; undecided where too faint."""

    masks: Bool[Tensor, "channel position image"]
    undecided: Bool[Tensor, "channel position image"]
    off: float


def masks_among(
    mixed: Float[Tensor, "channel position image"], gates: Float[Tensor, "channel image"]
) -> BinaryMasks | str:
    """Return the masks m of mixed[c, p] = sum_i gates[c, i] m[c, p, i] q_i, with unknown vectors q_i.

    For each image a vector u with mixed[c, p] . u = gates[c, i] m[c, p, i] exists. On as many rows as images the masks
    form one of 2^n binary patterns, and a pattern fixes u and with it the mask everywhere: the right ones are binary
    everywhere. Images with the same gates come out in an order of their own. Derived for this project.
    """
    channels, positions, images = mixed.shape
    rows = mixed.reshape(-1, images)
    every = gates.repeat_interleave(positions, 0)
    found = torch.zeros(channels * positions, images, dtype=torch.bool)
    undecided, off, done = torch.zeros_like(found), 0.0, torch.zeros(images, dtype=torch.bool)
    while not bool(done.all()):
        first = int((~done).nonzero()[0])
        same = (gates - gates[:, first : first + 1]).abs().amax(0) <= 1e-5 * float(gates.abs().max())
        gate = every[:, first]
        vectors = _fitting(rows, gate)
        if len(vectors) != int(same.sum()):
            return f"{len(vectors)} binary patterns fit {int(same.sum())} images"
        values = torch.where(gate[:, None] == 0.0, torch.ones_like(gate)[:, None], rows @ vectors.T / gate[:, None])
        apart = (values - (values > 0.5).double()).abs()
        loud = gate.abs() > _LOUD * float(gate.abs().max())
        off = max(off, float(apart[loud].max()))
        found[:, same] = values > 0.5
        faint = (gate.abs() < _FAINT * float(gate.abs().max()))[:, None]
        undecided[:, same] = faint | (apart > BINARY)
        done |= same
    if off > BINARY:
        return f"they come out {off:.1g} away from 0 and 1"
    shape = (channels, positions, images)
    return BinaryMasks(found.view(shape), undecided.view(shape), off)


def _fitting(rows: Float[Tensor, "row image"], gate: Float[Tensor, " row"]) -> Float[Tensor, "found image"]:
    """Return the vectors u for which rows @ u / gate is binary."""
    images = rows.shape[1]
    loud = (gate.abs() > _LOUD * float(gate.abs().max())).nonzero().flatten()
    mine, scale = rows[loud], gate[loud, None]
    # Least squares among loud rows is well posed in an orthonormal basis of them.
    basis, mixing = torch.linalg.qr(mine)
    order = qr((basis / scale).T.cpu().numpy(), mode="r", pivoting=True)[1]
    pivots = torch.from_numpy(order[:images].copy()).long().to(basis.device)
    inverse = torch.linalg.inv(basis[pivots])
    generator = torch.Generator().manual_seed(0)
    tried = torch.randperm(len(mine), generator=generator)[:_TRIED]
    probe = (basis[tried] @ inverse * scale[pivots, 0]) / scale[tried]
    kept = []
    for start in range(1, 2**images, _CHUNK):
        numbers = torch.arange(start, min(start + _CHUNK, 2**images))
        patterns = (numbers[:, None] >> torch.arange(images) & 1).to(rows)
        kept += list(patterns[_binary(probe @ patterns.T)])
    found = []
    for pattern in kept:
        u = inverse @ (pattern * scale[pivots, 0])
        for _ in range(2):  # all loud rows together, once it is clear what they are
            u = basis.T @ (((basis @ u) / scale[:, 0] > 0.5) * scale[:, 0])
        if bool(_binary(((basis @ u) / scale[:, 0])[:, None])[0]):
            found.append(torch.linalg.solve_triangular(mixing, u[:, None], upper=True)[:, 0])
    return torch.stack(found) if found else rows.new_zeros(0, images)


def _binary(values: Float[Tensor, "row pattern"]) -> Bool[Tensor, " pattern"]:
    off = (values - (values > 0.5).to(values)).abs()
    return off.amax(0) < _CLOSE
