"""Gauss-Newton for ||r(z)||^2 + ||z||^2: least squares over a variable with a standard normal prior."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from auditor.records import Clock
from auditor.solvers.conjugate_gradients import conjugate_gradients

Residuals = Callable[[Tensor], Sequence[Tensor]]
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

    J' u is one backward pass, and as it is linear in u, its derivative in u along v is J v.
    """

    def __init__(self, residuals: Residuals, variable: Tensor) -> None:
        self._z = variable.detach().clone().requires_grad_(True)
        made = [r for r in residuals(self._z) if r.requires_grad]
        self.residuals = [r.detach() for r in made]
        self._made = made
        self._u = [torch.zeros_like(r, requires_grad=True) for r in made]
        (self._jtu,) = torch.autograd.grad(
            made, self._z, self._u, create_graph=True, allow_unused=True, materialize_grads=True
        )

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
        return conjugate_gradients(lambda v: self.gram(v) + v, right, most, tolerance, clock)

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


def gauss_newton(residuals: Residuals, variable: Tensor, most: int, tolerance: float, clock: Clock) -> GaussNewtonStep:
    """Make one step, halved until it lowers the objective."""
    about = Linearised(residuals, variable)
    right = -(about.transposed(about.residuals) + variable)
    direction, products = about.solve(right, most, tolerance, clock)
    before = objective(residuals, variable)
    for length in _STEPS:
        moved = variable + length * direction
        value = objective(residuals, moved)
        if value < before:
            return GaussNewtonStep(moved, value, length, products)
    return GaussNewtonStep(variable, before, 0.0, products)
