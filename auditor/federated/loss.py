"""What clients minimise: the losses of classifiers and regressors, and a user's own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from auditor.errors import UsageError
from auditor.records import Activation, Label, OutputSpec
from auditor.text import printable

# What a clip is trained as: one class of several, the set of classes present, yes or no, or a number in [0, 1].
TargetKind = Literal["class", "classes", "binary", "value"]
LOSSES = ("cross-entropy", "bce", "mse")
_TINY = torch.finfo(torch.float32).tiny


@runtime_checkable
class Loss(Protocol):
    """A loss over a batch, differentiable twice in the outputs.

    Attributes
    ----------
    name
        As the user spells it.
    kind
        What form of label it needs, see `targets_of`.
    raw
        True when it wants everything that the network returns instead of the tensor of logits.
    """

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> TargetKind: ...
    @property
    def raw(self) -> bool: ...

    def __call__(self, outputs: Any, targets: Tensor) -> Float[Tensor, ""]:
        """Return the mean loss; outputs are (clip, class) or (clip, frame, class)."""
        ...


@dataclass(frozen=True)
class CrossEntropy:
    """-log p_y, mean over clips (and frames): on logits, or on the (log-)probabilities that a model ends in."""

    activation: Activation = "none"
    name: str = "cross-entropy"
    kind: TargetKind = "class"
    raw: bool = False

    def __call__(self, outputs: Tensor, targets: Tensor) -> Float[Tensor, ""]:
        """Return the loss; `targets` are class indices `(clip,)` or probabilities `(clip, class)`."""
        rows, targets = _by_row(outputs, targets)
        if self.activation not in ("softmax", "log-softmax"):
            return F.cross_entropy(rows, targets)
        log = rows.clamp_min(_TINY).log() if self.activation == "softmax" else rows
        if targets.is_floating_point():
            return -(targets * log).sum(1).mean()
        return F.nll_loss(log, targets)


@dataclass(frozen=True)
class BinaryCrossEntropy:
    """-y log p - (1 - y) log(1 - p), mean over clips, frames and classes: each class is a question of its own.

    On logits, or on the probabilities that a model ends in, as `BCEWithLogitsLoss` and `BCELoss` compute it.
    """

    kind: TargetKind
    activation: Activation = "none"
    name: str = "bce"
    raw: bool = False

    def __call__(self, outputs: Tensor, targets: Tensor) -> Float[Tensor, ""]:
        """Return the loss; `targets` are 0 or 1 (or between): `(clip, class)`, or `(clip,)` for a single output."""
        rows, targets = _by_row(outputs, targets)
        wanted = targets.to(rows).reshape(rows.shape)
        if self.activation in ("sigmoid", "softmax"):
            return F.binary_cross_entropy(rows, wanted)
        return F.binary_cross_entropy_with_logits(rows, wanted)


@dataclass(frozen=True)
class SquaredErrorLoss:
    """(output - y)^2, mean over clips, frames and outputs; against one-hot on a softmax it is the Brier score / C."""

    kind: TargetKind
    name: str = "mse"
    raw: bool = False

    def __call__(self, outputs: Tensor, targets: Tensor) -> Float[Tensor, ""]:
        """Return the loss; `targets` are class indices, values `(clip,)`, or `(clip, class)`."""
        rows, targets = _by_row(outputs, targets)
        if not targets.is_floating_point():
            targets = F.one_hot(targets, rows.shape[1])
        return F.mse_loss(rows, targets.to(rows).reshape(rows.shape))


@dataclass(frozen=True, eq=False)
class UserLoss:
    """A user's function `loss(outputs, targets)`.

    Its attribute `targets` (class, classes, binary or value) says what form of label it needs, class if it has none;
    with an attribute `raw_outputs = True` it gets everything that the network returns.
    """

    name: str
    function: Callable[[Any, Tensor], Tensor]
    kind: TargetKind
    raw: bool

    def __call__(self, outputs: Any, targets: Tensor) -> Float[Tensor, ""]:
        """Return what the function returns.

        Raises
        ------
        UsageError
            It is not one number.
        """
        value = self.function(outputs, targets)
        if not isinstance(value, Tensor) or value.dim() != 0 or not value.is_floating_point():
            shape = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else printable(type(value).__name__)
            raise UsageError(f"{printable(self.name)} returned {shape}, not one number", "return the mean as a tensor")
        return value


def make_loss(name: str, output: OutputSpec, classes: int, function: Callable[..., Any] | None = None) -> Loss:
    """Return the loss for a model with this output.

    Parameters
    ----------
    name
        One of `LOSSES`, or any other name with a `function` of the user.

    Raises
    ------
    UsageError
        The loss does not fit the output.
    """
    if function is not None:
        kind: Any = getattr(function, "targets", "class" if classes > 1 else "binary")
        if kind not in get_args(TargetKind):
            raise UsageError(
                f"{printable(name)}.targets is {printable(str(kind))}", f"use one of {', '.join(get_args(TargetKind))}"
            )
        return UserLoss(name, function, kind, bool(getattr(function, "raw_outputs", False)))
    if name == "cross-entropy":
        if classes == 1:
            raise UsageError(
                "the model returns one number a clip, and cross-entropy over a single class has no gradient",
                "give --loss bce (two classes) or --loss mse (a value)",
            )
        return CrossEntropy(output.activation)
    if name == "bce":
        if output.activation == "log-softmax":
            raise UsageError(
                "the model ends in a log-softmax, whose outputs are no logits of separate classes",
                "give --loss cross-entropy",
            )
        return BinaryCrossEntropy("binary" if classes == 1 else "classes", output.activation)
    if name == "mse":
        return SquaredErrorLoss("value" if classes == 1 else "class")
    raise UsageError(f"--loss {printable(name)} is unknown", f"use {', '.join(LOSSES)}, or path/file.py:name")


def targets_of(labels: Sequence[Label], kind: TargetKind, classes: int) -> Tensor:
    """Return labels as a loss of this kind reads them, on the CPU.

    Class indices `(clip,)` for class, 0 and 1 `(clip, class)` for classes, numbers `(clip,)` for binary and value.
    """
    if kind == "class":
        return torch.tensor(labels)
    if kind != "classes":
        return torch.tensor(labels, dtype=torch.float32)
    hot = torch.zeros(len(labels), classes)
    for row, label in zip(hot, labels, strict=True):
        for present in label if isinstance(label, tuple) else (int(label),):
            row[present] = 1.0
    return hot


def guess_loss(classes: int, output: OutputSpec) -> tuple[str, str]:
    """Return the loss that clients most likely minimise, and why: as `fl-audit inspect` tells it."""
    if classes == 1:
        if output.activation == "none":
            return "bce", "one number a clip: the logit of two classes (if it is a value, clients minimise mse)"
        return "bce", f"one number a clip that ends in a {output.activation}: the probability of one of two classes"
    if output.activation == "sigmoid":
        return "bce", f"{classes} outputs that end in a sigmoid: several classes can be present at once"
    if output.activation in ("softmax", "log-softmax"):
        return "cross-entropy", f"{classes} outputs that end in a {output.activation}: one class of {classes}"
    return "cross-entropy", f"{classes} logits; nothing tells whether several classes can be present (then bce)"


def output_remarks(loss: Loss, output: OutputSpec) -> list[str]:
    """Say how the loss reads an output that is not logits."""
    ends = f"The model ends in a {output.activation}"
    if output.activation == "none" or isinstance(loss, UserLoss):
        return []
    if isinstance(loss, SquaredErrorLoss):
        return [f"{ends}: the squared error is taken of what it returns."]
    if isinstance(loss, CrossEntropy) and output.activation == "sigmoid":
        return [f"{ends}, and cross-entropy takes its outputs for logits: give --loss bce unless clients do so too."]
    return [f"{ends}: the loss is taken on its probabilities, which gives the gradients of the logits before it."]


def check_twice(loss: Loss, outputs: Any, targets: Tensor, clips: Tensor) -> None:
    """Run a user's loss once and differentiate it twice by the clips.

    Raises
    ------
    UsageError
        It raises, is not finite, or cannot be differentiated twice; in one line.
    """
    name = printable(loss.name)
    try:
        value = loss(outputs, targets)
        if not bool(torch.isfinite(value)):
            raise UsageError(f"{name} is {float(value.detach()):g} on a probe clip", "return a finite number")
        (first,) = torch.autograd.grad(value, clips, create_graph=True)
        torch.autograd.grad(first.square().sum(), clips)
    except UsageError:
        raise
    except Exception as error:
        what = printable(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}", 200)
        raise UsageError(
            f"{name} fails or cannot be differentiated twice ({what})",
            "write it with differentiable torch operations; outputs and targets are as docs/training.md says",
        ) from error


def _by_row(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Give every frame with an output of its own the clip's target."""
    if outputs.dim() != 3:
        return outputs, targets
    return outputs.flatten(0, 1), targets.repeat_interleave(outputs.shape[1], dim=0)
