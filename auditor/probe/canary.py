"""Canary clips: a random payload painted as blocks, so that a leak is counted in bits.

Every bit is one block that is bright on the left and dark on the right, or the other way round, at one of several
block sizes and rates of change. These are Haar wavelets (Haar 1910) in x and t, indicators in y: patterns of different
scales are orthogonal, so each bit is read by a matched filter that neither the other bits, nor a change of brightness,
nor the payload itself can disturb.
"""

import functools
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from auditor.errors import UsageError
from auditor.probe.digest import digest
from auditor.records import Clip, InputSpec, Probe

# The amplitudes of all scales together: pixels stay in [0.05, 0.95], off the borders where a box constraint helps.
_SWING = 0.45
# Filter outputs are amplitudes in [0, 1]; below this they are rounding errors, and the bit is a coin flip.
_TIE = 1e-6
_STREAMS = {"payload": 0, "ties": 1}


@dataclass(frozen=True)
class Scale:
    """Bits of one block size: `grid` x `grid` blocks, whose sign flips `flips` times in the clip."""

    grid: int
    flips: int


def scales(spec: InputSpec) -> tuple[Scale, ...]:
    """Return the scales that fit the clip, coarse and still first: the most robust bits come first in the payload.

    Blocks are halved in x, and halves are at least 2 pixels wide.
    """
    grids = [g for g in (2, 4, 8, 16) if spec.width >= 4 * g and spec.height >= 2 * g]
    if not grids and spec.width >= 2:
        grids = [1]
    slow = [Scale(g, 1) for g in grids[:2] if spec.frames >= 2]
    fast = [Scale(g, 3) for g in grids[1:2] if spec.frames >= 4]
    return (*(Scale(g, 0) for g in grids[:2]), *slow, *fast, *(Scale(g, 0) for g in grids[2:]))


def canary(spec: InputSpec, seed: int) -> Probe:
    """Return a canary whose payload is drawn from `seed`; 120 bits for a clip of 8x3x32x32.

    Raises
    ------
    UsageError
        Frames of one pixel width cannot carry a bit.
    """
    layout = scales(spec)
    if not layout:
        raise UsageError("frames of 1 pixel width cannot carry a canary", "audit with clips of your own")
    payload = _coins(spec, seed, "payload")
    clip = paint(spec, payload)
    return Probe(
        name=f"canary-{seed}",
        kind="canary",
        clip=clip,
        native=clip.clone(),
        sha256=digest(clip),
        source=f"generated from seed {seed}",
        payload=payload,
        decode=functools.partial(read, spec=spec, seed=seed),
    )


def bits(spec: InputSpec) -> int:
    """Return how many bits a canary of this size carries."""
    return sum(scale.grid**2 for scale in scales(spec))


def paint(spec: InputSpec, payload: tuple[int, ...]) -> Clip:
    """Return the clip that carries `payload`, on mid-grey."""
    layout = scales(spec)
    signs = torch.tensor(payload, dtype=torch.float64) * 2 - 1
    clip = torch.full((spec.frames, spec.height, spec.width), 0.5, dtype=torch.float64)
    for scale, sign in zip(layout, torch.split(signs, [s.grid**2 for s in layout]), strict=True):
        time, rows, columns = _patterns(spec, scale)
        blocks = sign.reshape(scale.grid, scale.grid)
        # Matrix products rather than one einsum, which would build (block, frame, height, width) on the way.
        clip += _SWING / len(layout) * time[:, None, None] * (rows.T @ blocks @ columns)
    return clip.float()[:, None].expand(spec.clip_shape).contiguous()


def read(clip: Clip, *, spec: InputSpec, seed: int) -> tuple[int, ...]:
    """Read the bits of any clip of this size by matched filters; the payload is not used.

    A filter that finds nothing is a tie, settled by a coin of its own (from `seed`, independent of the payload), so
    that a blank clip scores chance whatever the payload.
    """
    image = clip.detach().cpu().double().mean(1)
    found = torch.cat([_filter(image, spec, scale).flatten() for scale in scales(spec)])
    ties = torch.tensor(_coins(spec, seed, "ties"))
    return tuple(torch.where(found.abs() > _TIE, (found > 0).long(), ties).tolist())


def _filter(image: Float[Tensor, "frame height width"], spec: InputSpec, scale: Scale) -> Float[Tensor, "row column"]:
    """Return the least-squares amplitude of every block's pattern."""
    time, rows, columns = _patterns(spec, scale)
    inner = rows @ torch.einsum("t,thw->hw", time, image) @ columns.T
    norms = time.square().sum() * rows.square().sum(1)[:, None] * columns.square().sum(1)[None, :]
    return inner / norms


def _patterns(spec: InputSpec, scale: Scale) -> tuple[Tensor, Tensor, Tensor]:
    """Return the factors in t (frame,), y (block, height) and x (block, width)."""
    time = _haar(spec.frames, (scale.flips + 1) // 2).sum(0) if scale.flips else torch.ones(spec.frames).double()
    return time, _indicator(spec.height, scale.grid), _haar(spec.width, scale.grid)


def _indicator(length: int, cells: int) -> Float[Tensor, "cell position"]:
    """Return one row a cell: 1 inside it, 0 outside."""
    inside = torch.zeros(cells, length, dtype=torch.float64)
    for cell in range(cells):
        inside[cell, cell * length // cells : (cell + 1) * length // cells] = 1
    return inside


def _haar(length: int, cells: int) -> Float[Tensor, "cell position"]:
    """Return one Haar wavelet a cell: positive, then negative, of mean 0 and maximum 1; borders nest across `cells`."""
    border = [k * length // (2 * cells) for k in range(2 * cells + 1)]
    wavelets = torch.zeros(cells, length, dtype=torch.float64)
    for cell in range(cells):
        left, middle, right = border[2 * cell : 2 * cell + 3]
        wavelets[cell, left:middle] = (right - middle) / max(middle - left, right - middle)
        wavelets[cell, middle:right] = -(middle - left) / max(middle - left, right - middle)
    return wavelets


def _coins(spec: InputSpec, seed: int, stream: str) -> tuple[int, ...]:
    generator = torch.Generator().manual_seed(2 * seed + _STREAMS[stream])
    return tuple(torch.randint(0, 2, (bits(spec),), generator=generator).tolist())
