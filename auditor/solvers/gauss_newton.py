"""Gauss-Newton for ||r(z)||^2 + ||z||^2: least squares over a variable with a standard normal prior."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from auditor.records import Clock
from auditor.solvers.conjugate_gradients import conjugate_gradients

Residuals = Callable[[Tensor], Sequence[Tensor]]
Pooled = Callable[[Tensor], Tensor]
# Draws from which the diagonal of J'J is estimated, before it is pooled.
_PROBES = 2
_STEPS = (1.0, 0.5, 0.25, 0.1)


@dataclass(frozen=True)
class GaussNewtonStep:
    """Where a Gauss-Newton step led; `length` is 0 when no step lowered the objective, `products` counts J'J v."""

    variable: Tensor
    objective: float
    length: float
    products: int


class Linearised:
    """Residuals about one point, and products with their Jacobian by backward passes alone.

    J' u is one backward pass, and as it is linear in u, its derivative in u along v is J v. If the diagonal of J'J is
    nearly the same within groups of variables, `pooled` (the mean over each group) makes conjugate gradients use it.
    """

    def __init__(self, residuals: Residuals, variable: Tensor, pooled: Pooled | None = None) -> None:
        self._z = variable.detach().clone().requires_grad_(True)
        made = [r for r in residuals(self._z) if r.requires_grad]
        self.residuals = [r.detach() for r in made]
        self._made = made
        self._u = [torch.zeros_like(r, requires_grad=True) for r in made]
        (self._jtu,) = torch.autograd.grad(
            made, self._z, self._u, create_graph=True, allow_unused=True, materialize_grads=True
        )

        self._diagonal = None if pooled is None else 1.0 + pooled(self._squares())

    def transposed(self, u: Sequence[Tensor]) -> Tensor:
        """Return J' u."""
        (product,) = torch.autograd.grad(
            self._made, self._z, list(u), retain_graph=True, allow_unused=True, materialize_grads=True
        )
        return product

    def product(self, v: Tensor) -> tuple[Tensor, ...]:
        """Return J v."""
        return torch.autograd.grad(self._jtu, self._u, v, retain_graph=True, allow_unused=True, materialize_grads=True)

    def gram(self, v: Tensor) -> Tensor:
        """Return J'J v."""
        return self.transposed(self.product(v))

    def solve(self, right: Tensor, most: int, tolerance: float, clock: Clock) -> tuple[Tensor, int]:
        """Return d with (J'J + I) d = right by conjugate gradients, and the number of products."""
        return conjugate_gradients(lambda v: self.gram(v) + v, right, most, tolerance, clock, self._diagonal)

    def _squares(self) -> Tensor:
        """Return an estimate of the diagonal of J'J: the mean of (J' u)^2 over random signs u (Hutchinson 1990)."""
        generator = torch.Generator().manual_seed(0)
        total = torch.zeros_like(self._z)
        for _ in range(_PROBES):
            signs = [torch.randint(0, 2, r.shape, generator=generator).to(r) * 2.0 - 1.0 for r in self.residuals]
            total += self.transposed(signs).square() / _PROBES
        return total

    def posterior_error(self, most: int, tolerance: float, clock: Clock, seed: int) -> Tensor:
        """Return one draw of the error that the least squares solution has under the linearised model.

        A clip drawn from the prior is observed with the model's noise and solved for; what is missed is the draw.
        """
        generator = torch.Generator().manual_seed(seed)

        def normal(like: Tensor) -> Tensor:
            return torch.randn(like.shape, generator=generator).to(like)

        drawn = normal(self._z)
        seen = [y + normal(y) for y in self.product(drawn)]
        found, _ = self.solve(self.transposed(seen), most, tolerance, clock)
        return drawn - found


def objective(residuals: Residuals, variable: Tensor) -> float:
    """Return ||r(z)||^2 + ||z||^2."""
    made = residuals(variable.detach())
    return sum(float(r.detach().double().square().sum()) for r in made) + float(variable.double().square().sum())


def gauss_newton(
    residuals: Residuals,
    variable: Tensor,
    most: int,
    tolerance: float,
    clock: Clock,
    pooled: Pooled | None = None,
) -> GaussNewtonStep:
    """Make one step, halved until it lowers the objective."""
    about = Linearised(residuals, variable, pooled)
    right = -(about.transposed(about.residuals) + variable)
    direction, products = about.solve(right, most, tolerance, clock)
    before = objective(residuals, variable)
    for length in _STEPS:
        moved = variable + length * direction
        value = objective(residuals, moved)
        if value < before:
            return GaussNewtonStep(moved, value, length, products)
    return GaussNewtonStep(variable, before, 0.0, products)
