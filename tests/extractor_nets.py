"""Two-part models for attacks: a frozen extractor of frames, and heads of every kind that read its features."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from bench_nets import seeded
from torch import Tensor, nn

from auditor.federated import LocalClient, observe
from auditor.model.forward_pass import observe as read
from auditor.model.two_part import TwoPart, find_layers_of_parts
from auditor.model.video import VideoModel
from auditor.records import Clips, FederatedProtocol, Fidelity, InputSpec, Join, Knowledge, Target, View

CLASSES = 10


def conv(width: int = 128) -> nn.Module:
    """Features of a frame, 2 x 2 positions of a small ReLU net."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, width // 4, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
    )  # fmt: skip


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase], width: int, hidden: int = 64, classes: int = CLASSES) -> None:
        super().__init__()
        self.rnn = kind(width, hidden, batch_first=True)
        self.head = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][:, -1])


class PerFrame(nn.Module):
    """The same layers on every frame, answers averaged."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).mean(1)


class Attention(nn.Module):
    """A projection of every frame, learned positions, one attention block, the mean."""

    def __init__(self, width: int, hidden: int = 64) -> None:
        super().__init__()
        self.embed = nn.Linear(width, hidden)
        self.position = nn.Parameter(0.1 * torch.randn(1, 8, hidden))
        self.block = nn.TransformerEncoderLayer(hidden, 4, 2 * hidden, dropout=0.0, batch_first=True)
        self.head = nn.Linear(hidden, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x) + self.position[:, : x.shape[1]]
        return self.head(self.block(x).mean(1))


class DirectAttention(nn.Module):
    """An attention that reads the features themselves, whose input weights are one matrix."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.attention(x, x, x, need_weights=False)[0]).mean(1))


def mlp(inside: int, *hidden: int, act: type[nn.Module] = nn.ReLU) -> nn.Module:
    """Linear layers with activations between them."""
    sizes, layers = (inside, *hidden, CLASSES), []
    for a, b in pairwise(sizes):
        layers += [nn.Linear(a, b), act()]
    return nn.Sequential(*layers[:-1])


HEADS = {
    "gru": lambda width: Recurrent(nn.GRU, width),
    "lstm": lambda width: Recurrent(nn.LSTM, width),
    "rnn": lambda width: Recurrent(nn.RNN, width),
    "tanh per frame": lambda width: PerFrame(nn.Linear(width, 64), nn.Tanh(), nn.Linear(64, CLASSES)),
    "mlp per frame": lambda width: PerFrame(nn.Linear(width, 64), nn.ReLU(), nn.Linear(64, CLASSES)),
    "linear per frame": lambda width: PerFrame(nn.Linear(width, CLASSES)),
    "attention": Attention,
    "direct attention": DirectAttention,
}


def two_part(
    extractor: nn.Module, head: nn.Module, spec: InputSpec, join: Join = "sequence", classes: int = CLASSES
) -> Target:
    """Return the target that the loader would make of these parts."""
    network = TwoPart(extractor.eval(), head.eval(), join, spec.frames)
    model = VideoModel(network, spec)
    seen = read(model, torch.rand(1, *spec.clip_shape, generator=torch.Generator().manual_seed(0))).readings
    return Target(
        name="two parts", source="two parts", format="two-part", sha256="0" * 64, model=model, input=spec,
        classes=classes, layers=find_layers_of_parts(network, dict(model.named_parameters()), seen), operators={},
        fidelity=Fidelity(
            parity_max_error=None, gradient_check=0.0, double_backward=True, batchnorm="none", batch="dynamic"
        ),
        frozen=tuple(n for n, _ in model.named_parameters() if n.startswith("extractor.")),
    )  # fmt: skip


def view_of_parts(
    target: Target,
    clips: Clips,
    labels: Sequence[int],
    reference: Tensor | None = None,
    sent: Callable[[str], bool] = lambda name: True,
) -> View:
    """Return what an attacker sees of a client that trained the head on these clips."""
    names = tuple(n for n in target.parameters if n.startswith("head.") and sent(n.removeprefix("head.")))
    client = LocalClient(target.model, FederatedProtocol(batch=len(clips), sent=names), classes=target.classes)
    return View(
        target=target,
        client=client,
        update=observe(client, clips, torch.tensor(labels)),
        knowledge=Knowledge(
            clip_shape=target.input.clip_shape, batch=len(clips), classes=target.classes, labels=tuple(labels),
            reference=reference,
        ),
    )  # fmt: skip


def head_of(name: str, width: int, seed: int = 0) -> nn.Module:
    return seeded(lambda: HEADS[name](width), seed)
