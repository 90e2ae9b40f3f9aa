"""Tiny cases, each of which some attack of the catalogue solves or searches within a fraction of a second."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial

import torch
from bench_nets import clip, seeded, view_of
from extractor_nets import Recurrent, two_part, view_of_parts
from torch import Tensor, nn

from auditor.attack import ATTACKS, Attack
from auditor.attack.malicious import measurement
from auditor.federated import observe
from auditor.records import Budget, Clips, InputSpec, Reconstruction, Skipped, View

SPEC = InputSpec(frames=2, channels=3, height=8, width=8, layout="NCTHW")
PIXELS = 2 * 3 * 8 * 8
BUDGET = Budget(seconds=120.0, steps=60)


def conv(classes: int, spec: InputSpec) -> nn.Module:
    inside = 6 * spec.frames * (spec.height // 2) * (spec.width // 2)
    first = nn.Conv3d(3, 6, 3, padding=1, stride=(1, 2, 2))
    return nn.Sequential(first, nn.BatchNorm3d(6), nn.ReLU(), nn.Flatten(), nn.Linear(inside, classes))


def dense(classes: int, spec: InputSpec, width: int = 24) -> nn.Module:
    pixels = spec.frames * 3 * spec.height * spec.width
    return nn.Sequential(nn.Flatten(), nn.Linear(pixels, width), nn.ReLU(), nn.Linear(width, classes))


class Tokens(nn.Module):
    """Tubelets with learned positions, one attention block, a mean; without norm before the attention where told."""

    def __init__(self, classes: int, spec: InputSpec, width: int = 32, norm_first: bool = True) -> None:
        super().__init__()
        self.embed = nn.Conv3d(3, width, (1, 4, 4), (1, 4, 4))
        tokens = spec.frames * (spec.height // 4) * (spec.width // 4)
        self.position = nn.Parameter(0.1 * torch.randn(1, tokens, width))
        self.block = nn.TransformerEncoderLayer(width, 4, width, dropout=0.0, batch_first=True, norm_first=norm_first)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2) + self.position
        return self.head(self.block(x).mean(dim=1))


class BareAttention(nn.Module):
    """Tubelets with learned positions that enter an attention and nothing else: no norm, no skip connection."""

    def __init__(self, classes: int, spec: InputSpec, width: int = 64) -> None:
        super().__init__()
        self.embed = nn.Conv3d(3, width, (1, 4, 4), (1, 4, 4))
        tokens = spec.frames * (spec.height // 4) * (spec.width // 4)
        self.position = nn.Parameter(0.1 * torch.randn(1, tokens, width))
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        self.mix, self.head = nn.Linear(width, width), nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2) + self.position
        x, _ = self.attention(x, x, x, need_weights=False)
        return self.head(nn.functional.gelu(self.mix(x)).mean(dim=1))


class Imprinted(nn.Module):
    """A planted layer that sorts clips into bins, and a plain net behind it."""

    def __init__(self, classes: int, spec: InputSpec, bins: int = 64) -> None:
        super().__init__()
        made = measurement(spec.clip_shape, bins, 0)
        self.plant = nn.Linear(made.direction.numel(), bins)
        self.plant.weight.data = made.direction.transpose(0, 1).reshape(1, -1).repeat(bins, 1)
        self.plant.bias.data = -made.thresholds - 0.5 * made.direction.sum()
        net = conv(classes, spec)
        self.body, self.head = net[:-1], net[-1]

    def forward(self, x: Tensor) -> Tensor:
        shift = self.plant(x.flatten(1)).relu().mean(dim=1)
        ramp = torch.linspace(-1.0, 1.0, x.shape[-1], device=x.device)
        return self.head(self.body(x + 1e-3 * shift[:, None, None, None, None] * ramp))


def baited(classes: int, spec: InputSpec) -> nn.Module:
    """A head in which class 0 alone has weights, and is never predicted."""
    net = conv(classes, spec)
    net[4].weight.data[1:] = 0.0
    net[4].bias.data = torch.tensor([-20.0] + [0.0] * (classes - 1))
    return net


@dataclass(frozen=True)
class Case:
    """A net and a batch; a `reference` frame, of another clip, is always known."""

    name: str
    net: Callable[[int, InputSpec], nn.Module]
    batch: int = 1
    # How a FedAvg client trains, which the attacker knows; empty for one gradient.
    training: Mapping[str, float] = field(default_factory=dict)

    def clips(self, first: int = 0, spec: InputSpec = SPEC) -> Clips:
        return torch.stack([clip(first + k, spec) for k in range(self.batch)])

    def view(
        self,
        clips: Clips,
        *,
        classes: int = 10,
        spec: InputSpec = SPEC,
        labels: Sequence[int] | None = None,
        sent: Callable[[str], bool] = lambda name: True,
    ) -> View:
        net = seeded(lambda: self.net(classes, spec))
        names = [name for name, _ in net.named_parameters() if sent(name)]
        labels = [k % classes for k in range(len(clips))] if labels is None else labels
        view = view_of(net, clips, labels, sent=names, reference=clip(99, spec)[:1], spec=spec, classes=classes)
        return self._trained(view, clips, labels) if self.training else view

    def _trained(self, view: View, clips: Clips, labels: Sequence[int]) -> View:
        client = view.client.under(replace(view.client.protocol, algorithm="FedAvg", **self.training))
        knows = replace(view.knowledge, **self.training)
        return replace(view, client=client, knowledge=knows, update=observe(client, clips, torch.tensor(labels)))


def shades(classes: int, spec: InputSpec) -> nn.Module:
    """An extractor of frames; the classes are the head's."""
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Flatten())


class Behind(Case):
    """A frozen extractor of frames before a GRU that is trained."""

    def view(
        self,
        clips: Clips,
        *,
        classes: int = 10,
        spec: InputSpec = SPEC,
        labels: Sequence[int] | None = None,
        sent: Callable[[str], bool] = lambda name: True,
    ) -> View:
        spec = replace(spec, layout="NCHW")
        width = 8 * (spec.height // 2) * (spec.width // 2)
        head = seeded(lambda: Recurrent(nn.GRU, width, 16, classes))
        target = two_part(seeded(lambda: self.net(classes, spec)), head, spec, classes=classes)
        labels = [k % classes for k in range(len(clips))] if labels is None else labels
        return view_of_parts(target, clips, labels, clip(99, spec)[:1], sent)


# The first case in which an attack recovers something is the one that its contract is tested on: add one for an attack
# that needs another net.
CASES = (
    Case("conv", conv),
    Case("dense", dense),
    Case("tokens", Tokens),
    Case("tokens, no norm first", partial(Tokens, norm_first=False)),
    Case("attention alone", BareAttention),
    Case("dense, batch", partial(dense, width=200), batch=3),
    Case("imprinted", Imprinted, batch=3),
    Case("baited head", baited, batch=3),
    Case(
        "conv, local steps", conv, training={"local_epochs": 2, "local_batch": 0, "learning_rate": 0.1, "momentum": 0.0}
    ),
    Case("conv, local batches", conv, 2, {"local_epochs": 2, "local_batch": 1, "learning_rate": 0.1, "momentum": 0.0}),
    Behind("recurrent head behind a frozen extractor", shades),
)


@cache
def case_of(name: str) -> tuple[Case, Reconstruction] | None:
    """Return the first case in which the attack of this name makes a reconstruction, and what it made."""
    attack = next(a for a in ATTACKS if a.name == name)
    for case in CASES:
        made = run(attack, case.view(case.clips()))
        if isinstance(made, Reconstruction):
            return case, made
    return None


def run(attack: Attack, view: View, seed: int = 0, budget: Budget = BUDGET) -> Reconstruction | Skipped | str:
    """Ask for the obstacle first, as everybody has to; return it, or what the attack made."""
    return attack.obstacle(view) or attack.invert(view, budget, seed)
