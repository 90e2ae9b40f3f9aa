"""What lies between two layers, inverted unit by unit: activations, norms with fixed statistics, reshapes."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

# Points at which every unit's function is tabulated: spaced by 0.03 of the usual value near zero, reaching 60 of them.
_POINTS, _REACH, _FINE = 161, 60.0, 0.03
_HALVINGS = 40
# Values that agree to this share of the largest one cannot be told apart behind float32 gradients.
FLAT = 3e-6


@dataclass(frozen=True)
class Preimage:
    """The values before a segment that a known value behind it allows.

    Attributes
    ----------
    value
        The likeliest value of every unit, shaped as the input of the segment; at flat units the edge of the flat part.
    cotangent
        Its gradient there, from the gradient behind the segment.
    other, other_cotangent
        A second value that explains a unit as well (GELU and SiLU fall before they rise); the first one where there
        is none.
    ambiguous
        Units with two values.
    flat
        Sign of the side on which a unit lies beyond `value`, where its function is constant (ReLU: -1); else 0.
    """

    value: Tensor
    cotangent: Tensor
    other: Tensor
    other_cotangent: Tensor
    ambiguous: Tensor
    flat: Tensor

    def chosen(self, second: Tensor) -> "Preimage":
        """Return the preimage with the second value taken where `second` is true, and no ambiguity left."""
        take = second & self.ambiguous
        value = torch.where(take, self.other, self.value)
        cotangent = torch.where(take, self.other_cotangent, self.cotangent)
        return Preimage(value, cotangent, value, cotangent, torch.zeros_like(take), self.flat)


def invert_units(
    segment: Callable[[Tensor], Tensor], usual: Tensor, wanted: Tensor, cotangent: Tensor
) -> Preimage | None:
    """Solve segment(z) = wanted for z where every unit of the result depends on one unit of z.

    Parameters
    ----------
    segment
        From z to what the next layer reads.
    usual
        Values of z at some clip: shape and scale.
    wanted, cotangent
        What the next layer read, and the loss's gradient there.

    Returns
    -------
    None where the units mix (pooling, attention, a norm over the values themselves).
    """
    place = _places(segment, usual)
    if place is None or len(place) != wanted.numel():
        return None
    target = torch.empty_like(usual).flatten()
    target[place] = wanted.reshape(-1).to(target)

    def at(z: Tensor) -> Tensor:
        with torch.no_grad():
            return segment(z.view(usual.shape)).reshape(-1)[place.argsort()]

    scale = float(usual.std().clamp(min=1e-12))
    half = torch.linspace(-1.0, 1.0, _POINTS, dtype=torch.float64)
    density = _grid_density()
    grid = (scale * _REACH * torch.sinh(density * half) / torch.sinh(torch.tensor(density, dtype=torch.float64))).to(
        usual
    )
    flat_part = usual.new_empty(usual.numel())
    table = torch.stack([at(flat_part.fill_(float(v))) for v in grid]) - target
    near = table.abs() <= FLAT * float(wanted.abs().max())
    beside = torch.zeros_like(near)
    beside[1:] |= near[:-1]
    beside[:-1] |= near[1:]
    level = near & beside
    crossing = (table[1:] > 0) != (table[:-1] > 0)
    crossing &= ~level[1:] & ~level[:-1]
    middle = int(grid.abs().argmin())
    order = _nearest_first(crossing, middle)
    found = crossing.any(0)
    first = _bisect(at, target, grid, table, order[0])
    twice = crossing.sum(0) > 1
    second = torch.where(twice, _bisect(at, target, grid, table, order[1]), first)
    any_level = level.any(0)
    edge, side = _edges(at, target, grid, level, float(wanted.abs().max()), middle)
    closest = grid[table.abs().argmin(0)]
    flat = torch.where(any_level & ~found, side, torch.zeros_like(side))
    value = torch.where(found, first, torch.where(any_level, edge, closest))
    # A unit that is either at a root or far out where its function has levelled.
    also = found & any_level & ~twice
    other = torch.where(also, edge, torch.where(twice, second, value))
    ambiguous = twice | also
    shape = usual.shape
    slope, other_slope = (_pulled(segment, z.view(shape), cotangent) for z in (value, other))
    slope = torch.where(flat.view(shape) != 0, torch.zeros_like(slope), slope)
    other_slope = torch.where((also | (flat != 0)).view(shape), torch.zeros_like(slope), other_slope)
    return Preimage(
        value=value.view(shape),
        cotangent=slope,
        other=other.view(shape),
        other_cotangent=other_slope,
        ambiguous=ambiguous.view(shape),
        flat=flat.view(shape),
    )


def _grid_density() -> float:
    """Return b with sinh(b u) / sinh(b) * reach spaced by `_FINE` at u = 0."""
    low, high = 1e-3, 30.0
    step = 2.0 / (_POINTS - 1)
    for _ in range(100):
        b = 0.5 * (low + high)
        if _REACH * b * step / torch.sinh(torch.tensor(b, dtype=torch.float64)) > _FINE:
            low = b
        else:
            high = b
    return low


def _pulled(segment: Callable[[Tensor], Tensor], z: Tensor, cotangent: Tensor) -> Tensor:
    z = z.detach().clone().requires_grad_(True)
    with torch.enable_grad():
        out = segment(z)
        (pulled,) = torch.autograd.grad(out, z, cotangent.reshape(out.shape).to(out), allow_unused=True)
    return torch.zeros_like(z) if pulled is None else pulled.detach()


def _places(segment: Callable[[Tensor], Tensor], usual: Tensor) -> Tensor | None:
    """Return for every unit of the result the unit of the input that it depends on; None if they mix."""
    count = usual.numel()
    with torch.no_grad():
        size = segment(usual).numel()
    if size != count:
        return None
    index = torch.arange(count, device=usual.device)
    digits = (torch.ones(count), index % 1024 + 1, index // 1024 + 1)
    place = torch.full((count,), -1, dtype=torch.long, device=usual.device)
    scale = float(usual.std().clamp(min=1e-12))
    for at in (1.0, -1.0, 5.0, -5.0):
        z = torch.full_like(usual, at * scale)
        one, low, high = (_pulled(segment, z, d.to(usual)).flatten() for d in digits)
        open_ = one.abs() > 0.0
        safe = torch.where(open_, one, torch.ones_like(one))
        source = (low / safe).round().long() - 1 + 1024 * ((high / safe).round().long() - 1)
        place = torch.where(open_ & (place < 0), source, place)
    # `place` says which result unit an input unit feeds; it must be a permutation.
    if bool((place < 0).any()) or bool((place >= count).any()) or len(torch.unique(place)) != count:
        return None
    back = place.argsort()
    generator = torch.Generator().manual_seed(0)
    z = usual.std() * torch.randn(usual.shape, generator=generator).to(usual)
    changed = torch.rand(count, generator=generator).to(usual.device) < 0.5
    moved = torch.where(changed.view(usual.shape), z + scale, z)
    with torch.no_grad():
        before, after = segment(z).flatten(), segment(moved).flatten()
    return back if bool(torch.equal(before[place][~changed], after[place][~changed])) else None


def _nearest_first(crossing: Tensor, middle: int) -> Tensor:
    """Return the two crossed cells of every unit that are nearest to the middle of the grid, `(2, unit)`."""
    cells = torch.arange(len(crossing), device=crossing.device)
    far = (cells - middle + 0.5).abs()[:, None].expand(crossing.shape).clone()
    far[~crossing] = float(len(crossing)) * 2
    return far.topk(2, dim=0, largest=False).indices


def _bisect(at: Callable[[Tensor], Tensor], target: Tensor, grid: Tensor, table: Tensor, cell: Tensor) -> Tensor:
    low, high = grid[cell], grid[cell + 1]
    below = table.gather(0, cell[None])[0] <= 0
    for _ in range(_HALVINGS):
        mid = 0.5 * (low + high)
        same = ((at(mid) - target) <= 0) == below
        low, high = torch.where(same, mid, low), torch.where(same, high, mid)
    return 0.5 * (low + high)


def _edges(
    at: Callable[[Tensor], Tensor], target: Tensor, grid: Tensor, level: Tensor, size: float, middle: int
) -> tuple[Tensor, Tensor]:
    """Return where the level part of every unit begins, seen from the middle, and on which side it lies (-1 or 1)."""
    count, last = level.shape[1], len(grid) - 1
    index = torch.arange(len(grid), device=grid.device)[:, None]
    lowest = torch.where(level, index, last + 1).min(0).values.clamp(max=last)
    highest = torch.where(level, index, -1).max(0).values.clamp(min=0)
    # Level at the lower end of the grid: the unit lies below the edge; else above.
    down = level[0]
    inner = torch.where(down, highest, lowest)
    outer = torch.where(down, (highest + 1).clamp(max=last), (lowest - 1).clamp(min=0))
    inside, outside = grid[inner], grid[outer]
    for _ in range(_HALVINGS):
        mid = 0.5 * (inside + outside)
        yes = (at(mid) - target).abs() <= FLAT * size
        inside, outside = torch.where(yes, mid, inside), torch.where(yes, outside, mid)
    side = torch.where(down, -torch.ones(count), torch.ones(count)).to(grid)
    return inside, side
