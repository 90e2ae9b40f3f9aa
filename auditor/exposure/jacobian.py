"""Products of the gradient's Jacobian from either side, and the Gram matrices of some directions."""

from collections.abc import Callable, Collection, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from auditor.records import Client, Clips, repeated

# What of a gradient is seen, differentiable in it.
Seen = Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]
# A sparse sketch with m buckets keeps inner products of k vectors to a relative error of about sqrt(2 / m) = 2%
# (Charikar et al. 2002; Kane & Nelson 2014); smaller parameters are kept whole.
_BUCKETS = 4096


class JacobianProducts:
    """J v and J^T w for every parameter, where J = d g / d x at the given clips.

    With u a zero vector of the gradient's shape, J^T u is linear in u, so its derivative in u along v is J v: one
    double backward in all, and one product per v. Exact, whatever u is. `seen` is what of g is seen: all of it.
    """

    def __init__(self, client: Client, clips: Clips, labels: Tensor, seen: Seen = dict) -> None:
        self._x = clips.clone().requires_grad_(True)
        gradient = seen(client(self._x, labels, create_graph=True))
        self.names = tuple(gradient)
        self.norms = {n: float(g.detach().double().norm()) for n, g in gradient.items()}
        self.sizes = {n: g.numel() for n, g in gradient.items()}
        live = [n for n in self.names if gradient[n].requires_grad]
        self._live = tuple(live)
        self._gradient = [gradient[n] for n in live]
        self._u = [torch.zeros_like(gradient[n]).requires_grad_(True) for n in live]
        self._jtu: Tensor | None = None
        if live:
            (self._jtu,) = torch.autograd.grad(
                [gradient[n] for n in live], self._x, self._u, create_graph=True, allow_unused=True
            )
        self._sketches: dict[str, _Sketch] = {}

    def __call__(self, direction: Clips) -> dict[str, Float[Tensor, " bucket"]]:
        """Return J v (sketched) by parameter; parameters that do not depend on the clips are left out."""
        return {n: self._sketch(n)(p) for n, p in self.along(direction, self.names).items()}

    def along(self, direction: Clips, names: Collection[str]) -> dict[str, Tensor]:
        """Return J v of these parameters; those that do not depend on the clips are left out."""
        wanted = [i for i, n in enumerate(self._live) if n in names]
        if self._jtu is None or not self._jtu.requires_grad or not wanted:
            return {}
        of = [self._u[i] for i in wanted]
        products = torch.autograd.grad(self._jtu, of, direction, retain_graph=True, allow_unused=True)
        return {self._live[i]: p.detach() for i, p in zip(wanted, products, strict=True) if p is not None}

    def across(self, weights: Mapping[str, Tensor]) -> Clips:
        """Return J^T w, w by parameter and zero for those that are left out."""
        wanted = [i for i, n in enumerate(self._live) if n in weights]
        if not wanted:
            return torch.zeros_like(self._x)
        of, by = [self._gradient[i] for i in wanted], [weights[self._live[i]] for i in wanted]
        (made,) = torch.autograd.grad(of, self._x, by, retain_graph=True, allow_unused=True)
        return torch.zeros_like(self._x) if made is None else made.detach()

    def _sketch(self, name: str) -> "_Sketch":
        if name not in self._sketches:
            self._sketches[name] = _Sketch(self.sizes[name], self.names.index(name), self._x.device)
        return self._sketches[name]


class _Sketch:
    """Count sketch of a flattened tensor; the identity for short ones."""

    def __init__(self, size: int, seed: int, device: torch.device) -> None:
        self.size = size
        if size > _BUCKETS:
            g = torch.Generator().manual_seed(seed)
            self._bucket = torch.randint(_BUCKETS, (size,), generator=g).to(device)
            self._sign = (torch.randint(2, (size,), generator=g) * 2 - 1).to(torch.int8).to(device)

    def __call__(self, value: Tensor) -> Float[Tensor, " bucket"]:
        flat = value.detach().reshape(-1)
        if self.size <= _BUCKETS:
            return flat.cpu()
        return flat.new_zeros(_BUCKETS).index_add_(0, self._bucket, flat * self._sign).cpu()


def grams(
    products: JacobianProducts,
    directions: Sequence[Clips],
    groups: Mapping[str, Sequence[str]],
    progress: Callable[[float], None],
) -> dict[str, Float[Tensor, "mode mode"]]:
    """Return V^T J_l^T J_l V in float64 for every group of parameters."""
    columns: dict[str, list[Tensor]] = {}
    product = repeated(products)
    for i, direction in enumerate(directions):
        for name, value in product(direction).items():
            columns.setdefault(name, []).append(value)
        progress((i + 1) / len(directions))
    k = len(directions)
    result = {}
    for group, names in groups.items():
        total = torch.zeros(k, k, dtype=torch.float64)
        for name in names:
            if name in columns:
                matrix = torch.stack(columns[name]).double()
                total += matrix @ matrix.T
        result[group] = total
    return result
