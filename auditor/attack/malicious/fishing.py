"""One clip of a large batch, by a head that silences all others (Fishing for User Data)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from auditor.attack.base import Attack, skipped
from auditor.attack.closed_form.linear_input import LinearInversion
from auditor.attack.closed_form.patch_embedding import PatchEmbeddingInversion
from auditor.attack.labels.head import Head, by_class, clip_features, find_head
from auditor.attack.matching.gradient_matching import GradientMatching
from auditor.records import Budget, Clips, Label, Outcome, Reconstruction, Skipped, Update, View

# exp(-15) of a clip's gradient is left where it is not wanted: below what 64 clips and float32 could show.
_MARGIN = 15.0
# Logits per standard deviation of the measured feature: clips that differ by a tenth of it are told apart by exp(20).
_SHARPNESS = 200.0
# A head on features is linear in them up to float32 rounding.
_LINEAR = 1e-3
# Caught clips are counted by their weights, each 0 or 1 but for one that sits on the cut.
_ONE = 0.25


@dataclass(frozen=True)
class Hook:
    """Values of a head that a malicious server hands out, by name, and the class that it fishes for."""

    values: Mapping[str, Tensor]
    label: int


def fish_class(view: View, label: int, public: Clips) -> Hook | str:
    """Return a head that makes every clip of another class vanish from the update, or why there is none.

    Class fishing (Wen et al. 2022, arXiv 2202.00580): all other rows are zero, and the class is so unlikely that only
    clips which should have it have a gradient, p_c - [y = c] = -1. `view` is of an earlier, honest update; `public`
    clips tell how large logits get.
    """
    head, features = _understood(view, public)
    if isinstance(features, str):
        return features
    assert head.weight_name is not None
    row = by_class(view.target.parameters[head.weight_name].detach().double(), head.classes)[label]
    if not float(row.norm()) > 0.0:
        row = _direction(len(row), 0).to(row) / math.sqrt(len(row))
    seen = features @ row
    unlikely = -float(seen.max()) - _MARGIN - 3.0 * float(seen.std(correction=0))
    return _hook(view, head, label, row, unlikely)


def fish_feature(view: View, label: int, public: Clips, cut: float, seed: int) -> Hook | str:
    """Return a head that also silences the clips of class `label` whose feature lies above a cut.

    Feature fishing (Wen et al. 2022), for batches of a single class: the feature is a random direction, the `cut` is
    given in standard deviations of public clips about their mean. How many clips were caught is in the update
    (`caught`), so a server that sees the same batch again closes in on one by bisection.
    """
    head, features = _understood(view, public)
    if isinstance(features, str):
        return features
    direction = _direction(features.shape[1], seed).to(features)
    seen = features @ direction
    spread = float(seen.std(correction=0))
    if not spread > 0.0:
        return "public clips all look alike to the head"
    sharp = _SHARPNESS / spread
    rest = math.log(max(head.classes - 1, 1))
    return _hook(view, head, label, sharp * direction, rest - sharp * (float(seen.mean()) + cut * spread))


def caught(view: View) -> float:
    """Return how many clips of the fished class the update is made of: -B db_c, each weighs 1 - p_c; 0 without hook."""
    found = baited_head(view)
    if isinstance(found, str):
        return 0.0
    head, label = found
    assert head.bias is not None
    return -head.batch * float(head.bias[label])


def baited_head(view: View) -> tuple[Head, int] | str:
    """Return the head and the fished class of a public model whose head has a single row, or why it is no such head."""
    head = find_head(view)
    if head.weight is None or head.bias is None or head.weight_name is None:
        return "the update holds no gradient of a head with weight and bias"
    rows = by_class(view.target.parameters[head.weight_name].detach(), head.classes).abs().amax(dim=1)
    live = rows.nonzero().flatten()
    if head.classes < 2 or len(live) != 1:
        return "the head is not manipulated: more than one class has weights"
    return head, int(live[0])


@dataclass(frozen=True, kw_only=True)
class FishingInversion(Attack):
    """Cut one clip's update out of a batch's, then invert it as if the batch had been one clip.

    Below the head the update is the caught clip's alone; its feature is dW_c / db_c, and from it the public head gives
    the gradient that the clip alone would have sent for every other row.

    Attributes
    ----------
    closed
        Tried first, in order; the first that applies and is certified ends the attack.
    search
        What runs otherwise.
    """

    name: str = "fishing"
    title: str = "Malicious server: fishing for one clip"
    source: str = "Fishing for User Data (Wen et al. 2022, arXiv 2202.00580), class and feature fishing"
    closed: tuple[Attack, ...] = (LinearInversion(), PatchEmbeddingInversion())
    search: Attack = field(default_factory=GradientMatching)

    def obstacle(self, view: View) -> str | None:
        """Need a head in which a single class has weights, and cross-entropy."""
        if view.knowledge.loss != "cross-entropy":
            return f"the loss is {view.knowledge.loss}; the head of cross-entropy is what can be baited"
        if view.update.algorithm != "FedSGD":
            return "the update is of local training, not one gradient"
        found = baited_head(view)
        return found if isinstance(found, str) else None

    def invert(self, view: View, budget: Budget, seed: int) -> Reconstruction | Skipped:
        """Return the caught clip first; the others of the batch, of which nothing is known, are grey."""
        alone = self.isolated(view)
        if isinstance(alone, str):
            return skipped(self, alone)
        for attack in self.closed:
            if attack.obstacle(alone) is None:
                made = attack.invert(alone, budget, seed)
                if isinstance(made, Reconstruction) and made.outcome is Outcome.SOLVED:
                    off = self.search.measure(alone, made.clips, made.labels)
                    return self._filled(view, replace(made, objective=made.objective if off is None else off), attack)
        obstacle = self.search.obstacle(alone)
        if obstacle is not None:
            return skipped(self, obstacle)
        found = self.search.invert(alone, budget, seed)
        if isinstance(found, Skipped):
            return replace(found, what=self.name)
        return self._filled(view, found, self.search)

    def measure(self, view: View, clips: Clips, labels: tuple[Label, ...]) -> float | None:
        """Return the objective of the first clip for the update that was cut out; infinite where none could be."""
        alone = self.isolated(view)
        if isinstance(alone, str):
            return math.inf
        return self.search.measure(alone, clips[:1], alone.knowledge.labels or labels[:1])

    def isolated(self, view: View) -> View | str:
        """Return the view of the caught clip's own update, or why there is none."""
        found = baited_head(view)
        if isinstance(found, str):
            return found
        head, label = found
        assert head.weight is not None
        assert head.bias is not None
        assert head.weight_name is not None
        assert head.bias_name is not None
        if not all(bool(torch.isfinite(g).all()) for g in view.update.gradients.values()):
            return "the update holds values that are not finite"
        count = caught(view)
        if not abs(count - 1.0) <= _ONE:
            return f"{count:.1f} clips of class {label} were caught; one is needed"
        parameters = view.target.parameters
        feature = head.weight[label] / head.bias[label]
        w = by_class(parameters[head.weight_name].detach().double(), head.classes)
        slope = torch.softmax(w @ feature + parameters[head.bias_name].detach().double().reshape(-1), dim=0)
        slope[label] -= 1.0
        outer = torch.outer(slope, feature)
        sent = view.update.gradients
        weight = outer if sent[head.weight_name].squeeze().shape[0] == head.classes else outer.T
        own = {n: g * float(view.update.batch) for n, g in sent.items()}
        own[head.weight_name] = weight.reshape(sent[head.weight_name].shape).to(sent[head.weight_name])
        own[head.bias_name] = slope.reshape(sent[head.bias_name].shape).to(sent[head.bias_name])
        return View(
            target=view.target,
            client=view.client,
            update=Update(gradients=own, batch=1, precision=view.update.precision),
            knowledge=replace(view.knowledge, batch=1, labels=(label,), labels_from="chosen by the server"),
        )

    def _filled(self, view: View, made: Reconstruction, by: Attack) -> Reconstruction:
        """Make a batch of the one clip, and tell how it was found."""
        missing = view.update.batch - 1
        others = torch.full_like(made.clips, 0.5).expand(missing, *made.clips.shape[1:])
        rest = [label for label in view.knowledge.labels or () if label != made.labels[0]]
        return replace(
            made,
            attack=self.name,
            clips=torch.cat([made.clips, others]),
            labels=(*made.labels, *(rest + [made.labels[0]] * missing)[:missing]),
            certificate={**made.certificate, "clips_caught": caught(view)},
            notes=(*made.notes, f"the caught clip's own update, inverted by {by.name}; the other clips are unknown"),
        )


def _understood(view: View, public: Clips) -> tuple[Head, Tensor | str]:
    """Return the head and what it reads of public clips, `(clip, feature)`, in float64."""
    head = find_head(view)
    if view.knowledge.loss != "cross-entropy" or head.classes < 2:
        return head, "only a head of two or more classes under cross-entropy can be baited"
    if head.weight_name is None or head.bias_name is None:
        return head, "no classification head with weight and bias is sent"
    features = clip_features(view, head, public)
    if features is None or not bool(torch.isfinite(features).all()):
        return head, "what the head reads could not be observed"
    parameters = view.target.parameters
    w = by_class(parameters[head.weight_name].detach().double(), head.classes)
    linear = features @ w.T + parameters[head.bias_name].detach().double().reshape(-1)
    with torch.no_grad():
        logits = view.target.model(public).double()
    allowed = _LINEAR * (1.0 + float(logits.abs().max()))
    if logits.shape != linear.shape or float((logits - linear).abs().max()) > allowed:
        return head, "the logits of a clip are not linear in the mean of what the head reads"
    return head, features


def _hook(view: View, head: Head, label: int, row: Tensor, bias: float) -> Hook:
    assert head.weight_name is not None
    assert head.bias_name is not None
    parameters = view.target.parameters
    weight = torch.zeros(head.classes, len(row), dtype=row.dtype, device=row.device)
    weight[label] = row
    biases = torch.zeros(head.classes, dtype=row.dtype, device=row.device)
    biases[label] = bias
    old = parameters[head.weight_name]
    shaped = weight if old.squeeze().shape[0] == head.classes else weight.T
    return Hook(
        values={
            head.weight_name: shaped.reshape(old.shape).to(old),
            head.bias_name: biases.reshape(parameters[head.bias_name].shape).to(old),
        },
        label=label,
    )


def _direction(features: int, seed: int) -> Float[Tensor, " feature"]:
    return torch.randn(features, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
