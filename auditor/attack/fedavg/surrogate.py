"""Surrogate models: match one gradient somewhere between the public weights and the client's."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from auditor.attack.base import Attack
from auditor.attack.fedavg.wrapped import Wrapped
from auditor.attack.matching.gradient_matching import MODE_MATCHING, GradientMatching
from auditor.attack.matching.objective import Cosine
from auditor.records import Budget, Clips, Label, Reconstruction, Skipped, View

# The path has few degrees of freedom that matter: it learns at every tenth call, for a tenth of the cost.
_EVERY = 10
_COSINE = Cosine()


class SurrogatePath:
    """A quadratic Bezier curve from the public weights w0 to the client's wT, and a learned point on it.

    w(t) = (1 - t)^2 w0 + 2 t (1 - t) p + t^2 wT with p = (w0 + wT) / 2 + c |w0 - wT|, entry by entry. With c = 0 this
    is the straight line (1 - t) w0 + t wT of SME; NL-SME learns c too. It counts in units of the way that each weight
    went, so that weights that hardly moved do not curve, and is pulled towards 0: there are as many as equations.

    Parameters
    ----------
    moved
        w0 - wT by parameter.
    curvature
        Step size of c; 0 keeps the path straight.
    """

    def __init__(self, start: Mapping[str, Tensor], moved: Mapping[str, Tensor], rate: float, curvature: float) -> None:
        self._start, self._moved = start, moved
        self._far = {name: g.abs() for name, g in moved.items()} if curvature > 0.0 else {}
        device = next(iter(moved.values())).device
        self.t = torch.full((), 0.5, device=device, requires_grad=True)
        self.offsets = (
            {n: torch.zeros_like(g).requires_grad_(True) for n, g in moved.items()} if curvature > 0.0 else {}
        )
        groups = [{"params": [self.t], "lr": rate}, {"params": [*self.offsets.values()], "lr": curvature}]
        self._adam = torch.optim.Adam(groups[: 2 if self.offsets else 1])
        self._variables = (self.t, *self.offsets.values())

    def weights(self) -> dict[str, Tensor]:
        """Return the surrogate's weights, differentiable in the point and the curvature.

        No clamp and no absolute value here: a search takes them for kinks of the net.
        """
        t = self.t
        made = {}
        for name, moved in self._moved.items():
            made[name] = self._start[name] - t * moved
            if self.offsets:
                made[name] = made[name] + 2.0 * t * (1.0 - t) * self.offsets[name] * self._far[name]
        return made

    def stiffness(self) -> Tensor:
        """Return the mean square curvature."""
        count = sum(c.numel() for c in self.offsets.values())
        total = torch.stack([c.square().sum() for c in self.offsets.values()]).sum() if self.offsets else self.t * 0.0
        return total / max(1, count)

    def note(self, loss: Tensor) -> None:
        """Keep the slope of a loss; the weights of the graph that it came from must not change yet."""
        slopes = torch.autograd.grad(loss, self._variables, retain_graph=True, allow_unused=True)
        if all(s is None or bool(torch.isfinite(s).all()) for s in slopes):
            for variable, slope in zip(self._variables, slopes, strict=True):
                variable.grad = slope

    def move(self) -> None:
        """Make the step that was noted, if there is one."""
        if self.t.grad is None:
            return
        self._adam.step()
        self._adam.zero_grad()
        with torch.no_grad():
            self.t.clamp_(0.0, 1.0)


class SurrogateClient(Wrapped):
    """A client that sends one gradient of all its clips at a surrogate model, and learns where that model is."""

    def __init__(self, view: View, rate: float, curvature: float, stiffness: float) -> None:
        single = replace(view.client.protocol, algorithm="FedSGD", send_buffers=False)
        super().__init__(view.client.under(single))
        self._observed = dict(view.update.gradients)
        public = view.target.parameters
        start = {name: public[name].detach() for name in self._observed}
        self.path = SurrogatePath(start, self._observed, rate, curvature)
        self._stiffness, self._calls = stiffness, 0

    def __call__(self, clips: Clips, labels: Tensor, *, create_graph: bool = False) -> dict[str, Tensor]:
        """Return the gradient at the surrogate; every tenth call with a graph also moves the surrogate."""
        self.path.move()
        weights = self.path.weights()
        gradients = self.client.at(weights)(clips, labels, create_graph=create_graph)
        if create_graph:
            self._calls += 1
            if self._calls % _EVERY == 0:
                self.path.note(_COSINE(gradients, self._observed) + self._stiffness * self.path.stiffness())
        return gradients


@dataclass(frozen=True, kw_only=True)
class SurrogateMatching(Attack):
    """min over x and t of objective(gradient at w(t) of all clips, w0 - wT) + priors(x); knows no detail of training.

    Only the direction of w0 - wT is used, so neither learning rate nor epochs nor batch size matters, and a step costs
    as much as one of gradient matching, however many local steps there were.

    Attributes
    ----------
    search
        The gradient matching that is done at the surrogate: its objectives, priors, parametrisation and configurations.
    rate
        Step size of the point t, in [0, 1], at every tenth step.
    curvature
        Step size of the path's curvature, in units of |w0 - wT|; 0 for a straight path.
    stiffness
        Weight of the mean square curvature in what the path learns from.
    """

    search: GradientMatching = field(default_factory=lambda: MODE_MATCHING)
    rate: float = 0.01
    curvature: float = 0.0
    stiffness: float = 1e-3

    def obstacle(self, view: View) -> str | None:
        """Need a FedAvg update of more than one step."""
        if view.one_gradient:
            return "the update is one gradient at the public weights: there is no path to be on"
        return self.search.obstacle(view)

    def measure(self, view: View, clips: Clips, labels: tuple[Label, ...]) -> None:
        """Return None: the objective is the one at a surrogate, which moves with the clips."""

    def invert(self, view: View, budget: Budget, seed: int) -> Reconstruction | Skipped:
        """Search with a client that sends the surrogate's gradient."""
        client = SurrogateClient(view, self.rate, self.curvature, self.stiffness)
        # Running statistics after several steps are not those of one gradient.
        seen = replace(view, client=client, update=replace(view.update, buffers={}))
        found = self.search.invert(seen, budget, seed)
        if isinstance(found, Skipped):
            return replace(found, what=self.name)
        note = f"surrogate at {float(client.path.t.detach()):.2f} of the way from the public weights to the client's"
        return replace(found, attack=self.name, notes=(*found.notes, note))
