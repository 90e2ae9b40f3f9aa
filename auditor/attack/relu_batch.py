"""The inputs of a whole batch at a Linear layer behind which a ReLU stands, exactly (SPEAR)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from auditor.records import Clock

# Entries of a unit direction below this are zeros of the ReLU; float32 gradients leave about 1e-6 there.
_ZERO = 1e-4
# Directions whose cosine is this near to one are one direction.
_SAME = 1e-6
# What must be left of a direction beside those before it.
_NEW = 1e-3
# Singular values below this share of the largest are float32 rounding.
_RANK = 1e-6
# Batches of small null-space problems that are solved together.
_CHUNK = 256
# Rounds of reweighting that draw a sampled direction to a sparse one.
_SHARPENING = 20
# The sampled rows must be independent: the last diagonal entry of their QR against the first.
_FIXED = 1e-3
# Sparse directions that are kept, the sparsest first; mixtures of inputs that open the same units are among them.
_KEPT = 2000
# Rounds of sampling without a better answer after which no better one is expected.
_PATIENCE = 15
# Slopes that vanish where the ReLU is shut and nowhere else, but for a unit that rounding leaves undecided.
CERTAIN = 0.999


@dataclass(frozen=True)
class BatchInputs:
    """The rows that a Linear layer saw, in no order.

    Attributes
    ----------
    inputs
        X, one row a sample.
    slopes
        dL/dZ, one row a sample, of the mean loss.
    agreement
        Share of (sample, unit) pairs where the slope vanishes exactly where the ReLU is shut, W x + b <= 0. 1 is the
        certificate: a wrong answer agrees on about half.
    residual
        ||dW - slopes' X|| / ||dW||.
    """

    inputs: Float[Tensor, "sample feature"]
    slopes: Float[Tensor, "sample unit"]
    agreement: float
    residual: float


def recover_relu_batch(
    dw: Float[Tensor, "unit feature"],
    db: Float[Tensor, " unit"],
    weight: Float[Tensor, "unit feature"],
    bias: Float[Tensor, " unit"],
    *,
    batch: int,
    seed: int,
    seconds: float,
) -> BatchInputs | str:
    """Factor dW = D' X into the slopes D (sample, unit) and inputs X of a batch, or say why it cannot be done.

    SPEAR (Dimitrov et al. 2024, arXiv 2403.03945): dW = L R with L = D' Q^-1 of full column rank B, and ReLU makes the
    columns of D' sparse. The null vector of B - 1 rows of L where a column of D' is zero is that column of Q; rows are
    sampled until the sparsest B independent directions agree with the ReLU. A mixture of columns is open wherever one
    of them is, so the greedy basis holds the columns themselves once all were found. Their lengths follow from
    db = D' 1, and X = Q^-1 R. Works in float64; harder the more clips there are and the more they are alike.
    """
    dw, db, weight, bias = (t.detach().double() for t in (dw, db, weight, bias))
    if min(dw.shape) < batch:
        return f"{batch} clips are more than the lesser of the layer's {len(dw)} units and {dw.shape[1]} inputs"
    u, s, vh = _low_rank(dw, batch)
    if not float(s[batch - 1]) > _RANK * float(s[0]):
        return f"the weight's gradient has a rank below {batch}: its clips, or their slopes, are not independent"
    left, right = u[:, :batch], s[:batch, None] * vh[:batch]
    generator, clock = torch.Generator().manual_seed(seed), Clock(seconds)
    candidates = left.new_zeros(0, batch)
    best: BatchInputs | None = None
    idle = 0
    while clock.left > 0.0 and idle < _PATIENCE and (best is None or best.agreement < CERTAIN):
        idle += 1
        candidates = _sparsest(torch.cat([candidates, _sampled(left, generator)]), left)
        chosen = _independent(candidates, batch)
        if len(chosen) == batch:
            made = _solved(chosen.T, left, right, dw, db, weight, bias)
            if best is None or made.agreement > best.agreement:
                best, idle = made, 0
    if best is None:
        return f"fewer than {batch} sparse directions were found: no ReLU follows, or too many clips share the update"
    return best


def _low_rank(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the singular value decomposition of a matrix whose rank is about `rank`, by a random sketch of its range.

    Halko, Martinsson & Tropp 2011 (arXiv 0909.4061), algorithm 4.1; a full one takes minutes for a wide layer.
    """
    width = min(*matrix.shape, rank + 8)
    sketch = torch.randn(matrix.shape[1], width, dtype=matrix.dtype, generator=torch.Generator().manual_seed(0))
    basis = torch.linalg.qr(matrix @ sketch.to(matrix.device))[0]
    u, s, vh = torch.linalg.svd(basis.T @ matrix, full_matrices=False)
    return basis @ u, s, vh


def _solved(
    q: Tensor, left: Tensor, right: Tensor, dw: Tensor, db: Tensor, weight: Tensor, bias: Tensor
) -> BatchInputs:
    """Scale the columns of Q so that the slopes add up to db, and see whether the ReLU agrees with them."""
    q = q * torch.linalg.lstsq(left @ q, db[:, None]).solution[:, 0]
    slopes = (left @ q).T
    inputs = torch.linalg.lstsq(q, right).solution
    sloped = slopes.abs() > _ZERO * slopes.abs().amax(dim=1, keepdim=True)
    opened = inputs @ weight.T + bias > 0.0
    return BatchInputs(
        inputs=inputs,
        slopes=slopes,
        agreement=float((sloped == opened).double().mean()),
        residual=float((slopes.T @ inputs - dw).norm() / dw.norm()),
    )


def _sampled(left: Tensor, generator: torch.Generator) -> Tensor:
    """Return the null vectors of random choices of B - 1 rows of L, each of length one."""
    norms = left.norm(dim=1)
    left = left[norms > _RANK * norms.max()]  # a unit that no sample opens is zero for every direction
    units, batch = left.shape
    # The first B - 1 of a random order are a random sample without replacement.
    order = torch.rand(_CHUNK, units, generator=generator).topk(batch - 1, dim=1).indices.to(left.device)
    rows = left[order] / left[order].norm(dim=2, keepdim=True)
    q, r = torch.linalg.qr(rows.transpose(1, 2), mode="complete")
    diagonal = r.diagonal(dim1=1, dim2=2).abs()
    return _sharpened(q[diagonal.amin(dim=1) > _FIXED, :, -1], left / left.norm(dim=1, keepdim=True))


def _sharpened(directions: Tensor, left: Tensor) -> Tensor:
    """Draw each direction to the nearest one with fewer open units: minimise sum_i log((L q)_i^2 + e^2), e falling.

    Iteratively reweighted least squares for a sparse vector in a subspace (after Chartrand & Yin, ICASSP 2008): the
    weights are 1 / ((L q)_i^2 + e^2), and q the eigenvector of least eigenvalue of L' W L.
    """
    products = (left[:, :, None] * left[:, None, :]).flatten(1)
    for step in range(_SHARPENING):
        smooth = 0.1 * 0.5**step
        weights = 1.0 / ((directions @ left.T).square() + smooth**2)
        system = (weights @ products).reshape(-1, left.shape[1], left.shape[1])
        directions = torch.linalg.eigh(system)[1][..., 0]
    return directions


def _sparsest(directions: Tensor, left: Tensor) -> Tensor:
    """Sort directions by the number of units that they open, and keep each once."""
    seen = (directions @ left.T).abs()
    opened = (seen > _ZERO * seen.amax(dim=1, keepdim=True)).sum(dim=1)
    kept = directions[opened.argsort(stable=True)[:_KEPT]]
    alike = (kept @ kept.T).abs() > 1.0 - _SAME
    return kept[~alike.tril(-1).any(dim=1)]


def _independent(directions: Tensor, wanted: int) -> Tensor:
    """Take directions in order as long as each adds a dimension: the greedy basis, whose supports are smallest."""
    rest, chosen = directions.clone(), []
    for i in range(len(directions)):
        if float(rest[i].norm()) > _NEW:
            chosen.append(i)
            unit = rest[i] / rest[i].norm()
            rest = rest - (rest @ unit)[:, None] * unit
        if len(chosen) == wanted:
            break
    return directions[chosen]
