"""The inputs of a whole batch at a Linear layer behind which a ReLU stands, exactly (SPEAR)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from auditor.records import Clock
from auditor.solvers.least_norm import least_norm

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
# Directions that are tried in exchange for one that was chosen, and how often each may be exchanged.
_TRIED, _EXCHANGES = 100, 2
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
    behind: Float[Tensor, "class unit"] | None = None,
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

    Alike inputs shut few units for one and not for the others, and D' has few zeros. With the weight V of a Linear
    layer right behind the ReLU, a column of D' is V' r where it is open, so L q - V' r = 0 there: sparse vectors are
    looked for in the span of [L, V'] too, where they are the sparser the more units are open (derived for this
    project).
    """
    dw, db, weight, bias = (t.detach().double() for t in (dw, db, weight, bias))
    if min(dw.shape) < batch:
        return f"{batch} clips are more than the lesser of the layer's {len(dw)} units and {dw.shape[1]} inputs"
    u, s, vh = low_rank(dw, batch)
    if not float(s[batch - 1]) > _RANK * float(s[0]):
        return f"the weight's gradient has a rank below {batch}: its clips, or their slopes, are not independent"
    left, right = u[:, :batch], s[:batch, None] * vh[:batch]
    generator, clock = torch.Generator().manual_seed(seed), Clock(seconds)
    spans = [_Span(left)] if behind is None else [_Span(left), _Span(left, behind.detach().double().T)]
    relu = _Relu(left, right @ weight.T, left.T @ db, bias)
    candidates = left.new_zeros(0, batch)
    best: BatchInputs | None = None
    idle = 0
    while clock.left > 0.0 and idle < _PATIENCE and (best is None or best.agreement < CERTAIN):
        idle += 1
        drawn = [span.directions(_sampled(span.basis, generator)) for span in spans]
        candidates = _sparsest(torch.cat([candidates, *drawn]), left)
        chosen = _independent(candidates, batch)
        if len(chosen) == batch:
            q = relu.exchanged(chosen, candidates).T
            fitted = _solved(_fitted(q, left), left, right, dw, db, weight, bias)
            made = max(fitted, _solved(q, left, right, dw, db, weight, bias), key=lambda m: m.agreement)
            if best is None or made.agreement > best.agreement:
                best, idle = made, 0
    if best is None:
        return f"fewer than {batch} sparse directions were found: no ReLU follows, or too many clips share the update"
    return best


def low_rank(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
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
    q = q * least_norm(left @ q, db[:, None])[:, 0]
    slopes = (left @ q).T
    inputs = least_norm(q, right)
    sloped = slopes.abs() > _ZERO * slopes.abs().amax(dim=1, keepdim=True)
    opened = inputs @ weight.T + bias > 0.0
    return BatchInputs(
        inputs=inputs,
        slopes=slopes,
        agreement=float((sloped == opened).double().mean()),
        residual=float((slopes.T @ inputs - dw).norm() / dw.norm()),
    )


def _fitted(q: Tensor, left: Tensor) -> Tensor:
    """Fit every column to all the units where it is shut at once; a sampled one was fitted to a few."""
    seen = (left @ q).abs()
    columns = []
    for i in range(q.shape[1]):
        shut = left[seen[:, i] <= _ZERO * seen[:, i].max()]
        _, s, vh = torch.linalg.svd(shut, full_matrices=True)
        sure = len(s) >= q.shape[0] - 1 and float(s[q.shape[0] - 2]) > _RANK * float(s[0])
        columns.append(vh[-1] if sure else q[:, i])
    return torch.stack(columns, dim=1)


class _Relu:
    """What choices of the directions q_i say of the ReLU: slopes L q_i against inputs Q^-1 R W' + b."""

    def __init__(self, left: Tensor, images: Tensor, total: Tensor, bias: Tensor) -> None:
        self._left, self._images, self._total, self._bias = left, images, total, bias

    def exchanged(self, chosen: Tensor, candidates: Tensor) -> Tensor:
        """Exchange one direction after another, as long as more units agree.

        Samples with one label have slopes alike, and a mixture of two of them can be as sparse as either. So the
        sparsest mixtures of two that were chosen are tried beside the sparsest that were found.
        """
        agreement = float(self._agreement(chosen[None])[0])
        for _ in range(_EXCHANGES * len(chosen)):
            tried = torch.cat([candidates[:_TRIED], _sparsest(self._mixtures(chosen), self._left)[:_TRIED]])
            batch = len(chosen)
            sets = chosen.expand(batch, len(tried), batch, batch).clone()
            for i in range(batch):
                sets[i, :, i] = tried
            scores = self._agreement(sets.flatten(0, 1))
            index = int(scores.argmax())
            if float(scores[index]) <= agreement:
                break
            chosen, agreement = sets.flatten(0, 1)[index], float(scores[index])
        return chosen

    def _mixtures(self, chosen: Tensor) -> Tensor:
        """Return q_i + t q_k with a zero at one unit, for every pair and unit."""
        seen = chosen @ self._left.T
        i, k = torch.triu_indices(len(chosen), len(chosen), 1).to(chosen.device)
        mixed = seen[k][:, :, None] * chosen[i][:, None] - seen[i][:, :, None] * chosen[k][:, None]
        mixed = mixed.flatten(0, 1)
        norms = mixed.norm(dim=1)
        kept = norms > _NEW * norms.max()
        return mixed[kept] / norms[kept, None]

    def _agreement(self, sets: Tensor) -> Tensor:
        """Return the share of (sample, unit) pairs that agree, for sets (set, sample, direction)."""
        inverse, singular = torch.linalg.inv_ex(sets.transpose(1, 2))
        lengths = inverse @ self._total
        slopes = sets @ self._left.T
        images = (inverse @ self._images) / lengths[:, :, None]
        sloped = slopes.abs() > _ZERO * slopes.abs().amax(dim=2, keepdim=True)
        agreed = (sloped == (images + self._bias > 0.0)).double().mean(dim=(1, 2))
        return torch.where((singular == 0) & torch.isfinite(images).all(2).all(1), agreed, -1.0)


class _Span:
    """Vectors over units in which sparse ones are looked for: L q, or L q - V' r."""

    def __init__(self, left: Tensor, behind: Tensor | None = None) -> None:
        norms = left.norm(dim=1)
        seen = norms > _RANK * norms.max()  # a unit that no sample opens is zero for every direction
        self._batch = left.shape[1]
        if behind is None:
            self.basis, self._back = left[seen], torch.eye(self._batch).to(left)
            return
        both = torch.cat([left, behind / behind.norm(dim=0).clamp(min=1e-300)], dim=1)[seen]
        u, s, vh = torch.linalg.svd(both, full_matrices=False)
        kept = s > _RANK * s[0]
        self.basis, self._back = u[:, kept], (vh[kept] / s[kept, None])[:, : self._batch]

    def directions(self, found: Tensor) -> Tensor:
        """Return the q of vectors that were found, each of length one."""
        q = found @ self._back
        return q / q.norm(dim=1, keepdim=True).clamp(min=1e-300)


def _sampled(basis: Tensor, generator: torch.Generator) -> Tensor:
    """Return vectors that vanish at random choices of as many units as leave one vector, drawn to sparser ones."""
    units, size = basis.shape
    if units < size:
        return basis.new_zeros(0, size)
    # The first of a random order are a random sample without replacement.
    order = torch.rand(_CHUNK, units, generator=generator).topk(size - 1, dim=1).indices.to(basis.device)
    unit = basis / basis.norm(dim=1, keepdim=True).clamp(min=1e-300)
    q, r = torch.linalg.qr(unit[order].transpose(1, 2), mode="complete")
    diagonal = r.diagonal(dim1=1, dim2=2).abs()
    return _sharpened(q[diagonal.amin(dim=1) > _FIXED, :, -1], unit)


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
