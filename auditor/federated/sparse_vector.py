"""The sparse vector technique as NVFlare's SVTPrivacy has it: few entries, drawn by noisy thresholds, with noise."""

import math
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from auditor.federated.clipping import positive
from auditor.federated.sparsification import seen
from auditor.records import Defence, Effect, written


@dataclass(frozen=True)
class SparseVector(Defence):
    """Release a share of all entries, cut at +-gamma, with Laplace noise, and zero for the rest.

    With d the change per local step, n = ceil(share * entries), e1 = `epsilon` / (1 + (2 n)^(2/3)), e2 = `epsilon` - e1
    and e3 = `budget`: entries are drawn, with replacement, among those for which |cut(d)| + Lap(2 gamma n / e2) reaches
    tau + Lap(gamma / e1); what is released is cut(d) + Lap(2 gamma / e3) (Lyu, Su & Li 2017, arXiv 1603.01699, as
    NVFlare 2.9.0 has it; its budget counts gamma for a sensitivity, which the release of n entries does not have).
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
            f"{self.share:.2%} of all entries are released, cut at +-{written(self.gamma)} a step, with Laplace noise "
            f"of scale {self.noise:.3g}"
        )

    @property
    def noise(self) -> float:
        """Scale of the noise of what is released."""
        return 2.0 * self.gamma / self.budget

    def apply(self, update: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Return the released entries, and zero elsewhere."""
        flat = torch.cat([update[n].detach().double().cpu().flatten() for n in sorted(update)]) / self.steps
        count = min(math.ceil(flat.numel() * self.share), flat.numel())
        of_threshold = self.epsilon / (1.0 + (2.0 * count) ** (2.0 / 3.0))
        threshold = self.tau + _laplace((1,), self.gamma / of_threshold, generator)
        query = 2.0 * self.gamma * count / (self.epsilon - of_threshold)
        cut = flat.clamp(-self.gamma, self.gamma)
        accepted: list[Tensor] = []
        left = torch.arange(flat.numel())
        while sum(map(len, accepted)) < count:
            above = cut[left].abs() + _laplace(left.shape, query, generator) >= threshold
            accepted.append(left[above])
            left = left[~above]
        pool = torch.cat(accepted)
        drawn = torch.zeros_like(flat, dtype=torch.bool)
        drawn[pool[torch.randint(len(pool), (count,), generator=generator)]] = True
        released = torch.zeros_like(flat)
        released[drawn] = (cut[drawn] + _laplace(cut[drawn].shape, self.noise, generator)) * self.steps
        made, start = {}, 0
        for name in sorted(update):
            g = update[name]
            made[name] = released[start : start + g.numel()].view(g.shape).to(g)
            start += g.numel()
        return {name: made[name] for name in update}

    def simulate(self, ours: Mapping[str, Tensor], sent: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        """Return ours, cut, where an entry was released: the noise is right on average."""
        limit = self.gamma * self.steps
        cut = {name: g.clamp(-limit, limit) for name, g in ours.items()}
        return cut if sent is None else seen(cut, sent)

    def deviation(self, sent: Mapping[str, Tensor]) -> dict[str, float]:
        """Return that of Laplace noise, scale times sqrt(2)."""
        return dict.fromkeys(sent, math.sqrt(2.0) * self.noise * self.steps)

    def __str__(self) -> str:
        return f"{self.name}:{','.join(written(each) for each in astuple(self))}"


def _laplace(shape: torch.Size | tuple[int, ...], scale: float, generator: torch.Generator) -> Tensor:
    u = torch.rand(shape, generator=generator, dtype=torch.float64).clamp(1e-300, 1.0 - 1e-16) - 0.5
    return -scale * u.sign() * torch.log1p(-2.0 * u.abs())
