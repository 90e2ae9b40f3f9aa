"""Products of the gradient's Jacobian with modes, for all layers at once, sketched where a layer is large."""

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from auditor.records import Client, Clips, repeated, work_of

# What of a gradient is seen, differentiable in it.
Seen = Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]
# A sparse sketch with m buckets keeps inner products of k vectors to a relative error of about sqrt(2 / m) = 2%
# (Charikar et al. 2002; Kane & Nelson 2014); smaller parameters are kept whole.
_BUCKETS = 4096


class JacobianProducts:
    """J v for every parameter, where J = d g / d x at the given clips.

    With u a zero vector of the gradient's shape, J^T u is linear in u, so its derivative in u along v is J v: one
    double backward in all, and one product per mode. Exact, whatever u is. `seen` is what of g is seen: all of it.
    """

    def __init__(self, client: Client, clips: Clips, labels: Tensor, seen: Seen = dict) -> None:
        self._x = clips.clone().requires_grad_(True)
        gradient = seen(client(self._x, labels, create_graph=True))
        self.names = tuple(gradient)
        self.norms = {n: float(g.detach().double().norm()) for n, g in gradient.items()}
        self.sizes = {n: g.numel() for n, g in gradient.items()}
        live = [n for n in self.names if gradient[n].requires_grad]
        self._live = tuple(live)
        self._u = [torch.zeros_like(gradient[n]).requires_grad_(True) for n in live]
        self._jtu: Tensor | None = None
        if live:
            (self._jtu,) = torch.autograd.grad(
                [gradient[n] for n in live], self._x, self._u, create_graph=True, allow_unused=True
            )
        self._sketch = {n: _Sketch(self.sizes[n], seed, clips.device) for seed, n in enumerate(self.names)}

    def __call__(self, direction: Clips) -> dict[str, Float[Tensor, " bucket"]]:
        """Return J v (sketched) by parameter; parameters that do not depend on the clips are left out."""
        if self._jtu is None or not self._jtu.requires_grad:
            return {}
        products = torch.autograd.grad(self._jtu, self._u, direction, retain_graph=True, allow_unused=True)
        return {n: self._sketch[n](p) for n, p in zip(self._live, products, strict=True) if p is not None}


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


def seconds_per_product(products: JacobianProducts, direction: Clips) -> float:
    """Count the work of one product, in reference seconds."""
    return work_of(lambda: products(direction))
