"""What a defence costs in accuracy: a short federated training under it, or a function of the user's own."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from auditor.errors import UsageError
from auditor.federated import AtServer, assign_labels, defend, parse_all
from auditor.model.sandbox.user_file import executed, in_a_line
from auditor.pipeline.context import Context, unit_seed
from auditor.probe import PICTURES, shipped_windows
from auditor.records import Clips, Defence, Skipped, record, work_of
from auditor.text import printable

# Rounds and clips a round of the short training: fresh weights tell the shipped scenes apart after it.
ROUNDS, _CLIPS = 60, 8
# Fewer rounds tell nothing.
LEAST_ROUNDS = 10
# Windows of every clip that are trained on, and that are asked afterwards.
_TRAINED, _ASKED = 6, 8
# Adam (Kingma & Ba 2015), at the server (Reddi et al. 2021, arXiv 2003.00295): it does not ask how large updates are,
# so that one rate serves clipped, signed and bare ones.
_RATE, _BETAS = 1e-3, (0.9, 0.99)
_REMEDY = "give path/file.py:name, a function that takes a defence and returns a number"


@record
class Utility:
    """A number that grows with what a model is worth, and the same without any defence."""

    value: float
    measure: str
    chance: float | None


@record
class LabelledClips:
    """Clips to train on and clips to ask, each with its class."""

    trained: Clips
    trained_as: tuple[int, ...]
    asked: Clips
    asked_as: tuple[int, ...]
    classes: int


def labelled(context: Context, seed: int) -> LabelledClips | Skipped:
    """Return windows of the shipped clips, each labelled as the scene that it is cut from; or why there are none."""
    kind = context.client.loss.kind
    if kind != "class" or context.input.channels not in PICTURES or context.target.output.frames:
        return _skipped("shipped clips have one class each, and this model reads or tells something else")
    rng = np.random.default_rng(unit_seed(seed, "utility"))
    shown = shipped_windows(context.input, rng, _TRAINED + _ASKED)
    names = list(shown)[: context.target.classes]
    if len(names) < 2:
        return _skipped("the model has a single class")
    labels = [int(label) for label in assign_labels(names, context.target.classes)]  # type: ignore[arg-type]
    return LabelledClips(
        trained=torch.cat([shown[name][:_TRAINED] for name in names]).to(context.device),
        trained_as=tuple(label for label in labels for _ in range(_TRAINED)),
        asked=torch.cat([shown[name][_TRAINED:] for name in names]).to(context.device),
        asked_as=tuple(label for label in labels for _ in range(_ASKED)),
        classes=len(names),
    )


def accuracy(context: Context, clips: LabelledClips, rounds: int) -> Utility:
    """Train the model for a few rounds on updates under the context's defences; return its accuracy afterwards.

    Every round, clients that hold `batch` clips each send what they send; the server averages, does what it does after
    averaging, and steps by Adam. Draws are paired over settings. The value is the share of the asked clips that are
    told right, in [0, 1].
    """
    weights = {name: context.target.parameters[name].detach().clone() for name in context.protocol.sent}
    optimiser = torch.optim.Adam(list(weights.values()), lr=_RATE, betas=_BETAS)
    rng = np.random.default_rng(unit_seed(context.seed, "training"))
    server = _at_server(context)
    for number in range(rounds):
        draws = torch.Generator().manual_seed(unit_seed(context.seed, "server", str(number)))
        average = defend(server, _average(context, weights, clips, number, rng), draws)
        for name, value in weights.items():
            value.grad = average[name]
        optimiser.step()
    told = _told(context, weights, clips.asked)
    right = sum(a == b for a, b in zip(told, clips.asked_as, strict=True))
    return Utility(value=right / len(told), measure="accuracy", chance=1.0 / clips.classes)


def round_seconds(context: Context, clips: LabelledClips) -> float:
    """Count the work of one round, in reference seconds."""
    weights = {name: context.target.parameters[name].detach() for name in context.protocol.sent}
    return work_of(lambda: _average(context, weights, clips, 0, np.random.default_rng(0)))


def _average(
    context: Context, weights: Mapping[str, Tensor], clips: LabelledClips, number: int, rng: np.random.Generator
) -> dict[str, Tensor]:
    """Return the average of what this round's clients send."""
    batch = context.protocol.batch
    senders = max(1, _CLIPS // batch)
    total: dict[str, Tensor] = {}
    for sender in range(senders):
        picked = rng.integers(len(clips.trained), size=batch)
        client = context.client.at(weights).with_seed(unit_seed(context.seed, "client", str(number), str(sender)))
        labels = client.targets(tuple(clips.trained_as[k] for k in picked))
        update = client.update(clips.trained[torch.from_numpy(picked).to(clips.trained.device)], labels).gradients
        total = {name: g / senders + total.get(name, 0.0) for name, g in update.items()}
    return total


def _told(context: Context, weights: dict[str, Tensor], clips: Clips) -> list[int]:
    """Return the class that the model tells of every clip."""
    model = context.target.model
    model.batchnorm("eval")
    model.dropout(False)
    with torch.no_grad(), model.with_parameters(weights):
        return [
            told
            for start in range(0, len(clips), _CLIPS)
            for told in model(clips[start : start + _CLIPS]).argmax(1).tolist()
        ]


def _at_server(context: Context) -> tuple[Defence, ...]:
    return tuple(d.defence for d in parse_all(context.protocol.defence) if isinstance(d, AtServer))


class AppliedDefence:
    """A setting as a user's function gets it: what clients do by calling it, and what a server does to the average.

    Both take and return `{name: numpy.ndarray}`. Several clients' updates are averaged by the user.
    """

    def __init__(self, context: Context) -> None:
        self.specs: tuple[str, ...] = context.protocol.defence
        self._client, self._server = context.client.defences, _at_server(context)
        self._draws = torch.Generator().manual_seed(unit_seed(context.seed, "utility"))

    def __call__(self, update: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return what a client sends in place of its update."""
        return self._applied(self._client, update)

    def server(self, average: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return what the server makes of the average."""
        return self._applied(self._server, average)

    def _applied(self, defences: Sequence[Defence], update: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        tensors = {name: torch.from_numpy(np.asarray(g, dtype=np.float32)) for name, g in update.items()}
        return {name: g.numpy() for name, g in defend(defences, tensors, self._draws).items()}


def user_utility(source: str) -> Callable[[Context], Utility]:
    """Return the user's own measure, `path/file.py:name`, as a function of a set-up. The file is executed.

    Raises
    ------
    UsageError
        There is no such function; or, when it is called, it raises or returns no finite number.
    """
    text, colon, name = source.rpartition(":")
    path = Path(text)
    if not colon or not path.is_file():
        raise UsageError(f"--utility: there is no file {printable(text or source)}", _REMEDY)
    function = getattr(executed(path, _REMEDY), name, None)
    if not callable(function):
        raise UsageError(f"--utility: {printable(path.name)} defines no function {printable(name)}", _REMEDY)

    def measured(context: Context) -> Utility:
        try:
            value = float(function(AppliedDefence(context)))
        except (Exception, SystemExit) as error:
            raise UsageError(f"--utility raised {in_a_line(error)}", "run it in Python to see where") from error
        if not math.isfinite(value):
            raise UsageError(f"--utility returned {value}", "return a finite number that grows with the utility")
        return Utility(value=value, measure=printable(name, 60), chance=None)

    return measured


def _skipped(reason: str) -> Skipped:
    return Skipped(
        stage="utility", what="accuracy", because="not-applicable", reason=reason, remedy="give --utility FILE.py:name"
    )
