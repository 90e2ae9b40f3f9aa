"""The sparse vector technique as NVFlare's SVTPrivacy has it: few entries, drawn by noisy thresholds, with noise."""

import math
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from auditor.federated.clipping import positive
from auditor.records import Defence, Effect, written


@dataclass(frozen=True)
class SparseVector(Defence):
    """Release a share of all entries with Laplace noise, cut at +-gamma, and zero for the rest.

    With d the change per local step, n = ceil(share * entries), e1 = `epsilon`, e3 = `budget`: entries are drawn, with
    replacement, among those for which |cut(d)| + Lap(4 gamma n / e2) reaches tau + Lap(2 gamma / e1), e2 =
    e1 (2 n)^(2/3); what is released is cut(d + Lap(2 gamma / e3)) (Lyu, Su & Li 2017, arXiv 1603.01699, as NVFlare 2.9
    has it; its budget counts gamma for a sensitivity, which the release of n entries does not have).
    """

    name: ClassVar[str] = "sparse-vector"
    form: ClassVar[str] = "sparse-vector:SHARE,EPSILON,BUDGET,GAMMA,TAU,STEPS, all above 0"
    effect: ClassVar[Effect] = "noise"
    share: float
    epsilon: float
    budget: float
    gamma: float
    tau: float
    steps: int

    @classmethod
    def of(cls, number: str) -> Self:
        """Return the defence with these numbers."""
        *numbers, steps = number.split(",")
        share, epsilon, budget, gamma, tau = (positive(each) for each in numbers)
        if share > 1.0 or int(steps) < 1:
            raise ValueError(number)
        return cls(share, epsilon, budget, gamma, tau, int(steps))

    @property
    def told(self) -> str:
        """What it does."""
        return (
            f"{self.share:.2%} of all entries are released with Laplace noise of scale {self.noise:.3g}, cut at "
            f"+-{written(self.gamma)} a step"
        )

    @property
    def noise(self) -> float:
        """Scale of the noise of what is released."""
        return 2.0 * self.gamma / self.budget

    def apply(self, update: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Return the released entries, and zero elsewhere."""
        flat = torch.cat([update[n].detach().double().cpu().flatten() for n in sorted(update)]) / self.steps
        count = min(math.ceil(flat.numel() * self.share), flat.numel())
        threshold = self.tau + _laplace((1,), 2.0 * self.gamma / self.epsilon, generator)
        query = 4.0 * self.gamma * count / (self.epsilon * (2.0 * count) ** (2.0 / 3.0))
        cut = flat.clamp(-self.gamma, self.gamma).abs()
        accepted: list[Tensor] = []
        left = torch.arange(flat.numel())
        while sum(map(len, accepted)) < count:
            above = cut[left] + _laplace(left.shape, query, generator) >= threshold
            accepted.append(left[above])
            left = left[~above]
        pool = torch.cat(accepted)
        drawn = torch.zeros_like(flat, dtype=torch.bool)
        drawn[pool[torch.randint(len(pool), (count,), generator=generator)]] = True
        released = torch.zeros_like(flat)
        noisy = flat[drawn] + _laplace(flat[drawn].shape, self.noise, generator)
        released[drawn] = noisy.clamp(-self.gamma, self.gamma) * self.steps
        made, start = {}, 0
        for name in sorted(update):
            g = update[name]
            made[name] = released[start : start + g.numel()].view(g.shape).to(g)
            start += g.numel()
        return {name: made[name] for name in update}

    def simulate(self, ours: Mapping[str, Tensor], sent: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        """Return what is released of ours on average: E cut(d + Lap(b)), where an entry was released.

        With G the integral of Laplace's distribution function, gamma - G(gamma - d) + G(-gamma - d).
        """
        made = {}
        for name, g in ours.items():
            d = g.double() / self.steps
            mean = self.gamma - _integral(self.gamma - d, self.noise) + _integral(-self.gamma - d, self.noise)
            mean = mean * self.steps
            made[name] = (mean if sent is None else mean * (sent[name] != 0.0)).to(g)
        return made

    def deviation(self, sent: Mapping[str, Tensor]) -> dict[str, float]:
        """Return the root mean square of what was released: nearly all of it is noise."""
        return {
            n: float(g[g != 0.0].double().square().mean().sqrt()) if bool(g.any()) else 0.0 for n, g in sent.items()
        }

    def __str__(self) -> str:
        return f"{self.name}:{','.join(written(each) for each in astuple(self))}"


def _laplace(shape: torch.Size | tuple[int, ...], scale: float, generator: torch.Generator) -> Tensor:
    u = torch.rand(shape, generator=generator, dtype=torch.float64).clamp(1e-300, 1.0 - 1e-16) - 0.5
    return -scale * u.sign() * torch.log1p(-2.0 * u.abs())


def _integral(u: Tensor, scale: float) -> Tensor:
    """Return the integral of Laplace's distribution function up to u."""
    tail = 0.5 * scale * torch.exp(-u.abs() / scale)
    return tail + u.clamp(min=0.0)
