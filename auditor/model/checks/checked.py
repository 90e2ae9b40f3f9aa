"""The checks that a network's size allows, made on one observed pass, and what is told of those that were not."""

from collections.abc import Sequence, Set

import torch
from torch import Tensor

from auditor.errors import NotAuditable
from auditor.model.checks.affordable import Affordable
from auditor.model.checks.derivatives import gradient_error, second_derivative
from auditor.model.checks.slopes import Unseen, unseen
from auditor.model.onnx.support import WAYS_FORWARD
from auditor.model.video import VideoModel
from auditor.records import record
from auditor.text import printable

WRONG_GRADIENT = 0.05
ROUGH_GRADIENT = 1e-3
# Formats whose derivatives are made by this package, not by the network's own code.
IMPORTED = ("onnx", "two-part")
SAME_ANSWER = 1e-4
TOO_LARGE = "a pass of this network computes too much"


@record
class Checked:
    """What the checks found: `gradient` and `second` as `Fidelity` holds them, and sentences for it."""

    gradient: float | None
    second: bool | None
    notes: tuple[str, ...]
    missing: tuple[str, ...]


def slopes_told(
    model: VideoModel, clip: Tensor, read: Set[str], logits: Tensor, checks: Affordable
) -> tuple[Unseen, list[str]]:
    """Return what slopes do not reach, and what to say of it or that it was not looked at; uses up what was kept."""
    if checks.slopes:
        found = unseen(model, clip, read, logits)
        return found, list(found.cut)
    return Unseen(), [f"Whether slopes reach every parameter was not checked: {TOO_LARGE}."]


def checked(
    model: VideoModel,
    clip: Tensor,
    answers: tuple[Tensor, Tensor],
    unreached: Sequence[str],
    checks: Affordable,
    form: str,
    seed: int,
) -> Checked:
    """Make the checks that remain on a clip; `answers` are the logits that it got in two passes already.

    `unreached` is what `slopes_told` found.

    Raises
    ------
    NotAuditable
        Gradients are wrong, or outputs change from run to run.
    """
    notes: list[str] = []
    missing: list[str] = []
    other = _answers_alike(model, clip, answers, checks.alike)
    if other is not None:
        missing += _of_the_batch(model, clip, answers[0], other)
    else:
        missing.append(f"Whether the model forgets earlier clips was not checked: {TOO_LARGE}.")
    gradient = gradient_error(model, clip, seed, checks.gradient) if checks.gradient else None
    missing += _of_the_gradient(gradient, checks, form)
    if gradient is not None and ROUGH_GRADIENT < gradient <= WRONG_GRADIENT and checks.gradient > 1:
        notes.append(f"Gradients agree with finite differences to {gradient:.1e} only.")
    if gradient is not None and checks.gradient == 1:
        notes.append(
            f"Gradients were compared with finite differences along one parameter and in float32 ({gradient:.1e}): "
            f"{TOO_LARGE} for more."
        )
    missing += unreached
    if not checks.second:
        missing.append(f"Second derivatives were not tried: {TOO_LARGE}, or keeps too much.")
        return Checked(gradient=gradient, second=None, notes=tuple(notes), missing=tuple(missing))
    failure = second_derivative(model, clip)
    if failure:
        notes.append(
            f"Second derivatives are missing, so attacks that need them cannot run: {printable(failure, 200)}."
        )
    return Checked(gradient=gradient, second=not failure, notes=tuple(notes), missing=tuple(missing))


def _of_the_gradient(error: float | None, checks: Affordable, form: str) -> list[str]:
    if not checks.gradient:
        return [f"Gradients were not compared with finite differences: {TOO_LARGE}."]
    if error is None:
        return [
            "Gradients were not compared with finite differences: a pass takes too long, or the network or its "
            "derivative fails in the precision that the comparison needs."
        ]
    if error <= WRONG_GRADIENT:
        return []
    if form in IMPORTED:
        raise NotAuditable(
            f"gradients disagree with finite differences by {error:.0%}", "report this model, and " + WAYS_FORWARD
        )
    return [
        f"Gradients disagree with finite differences by {error:.0%}: the network defines derivatives of its own "
        "(a straight-through estimator) or has steps. They are the ones that clients compute."
    ]


def _of_the_batch(model: VideoModel, clip: Tensor, alone: Tensor, other: Tensor) -> list[str]:
    """Say where two clips get other logits in one batch than by themselves, `alone` and `other`."""
    try:
        with torch.no_grad():
            together = model(torch.cat([clip, 1 - clip]))
    except Exception:  # noqa: BLE001 - a user's forward may take one clip only; several are told when they are needed
        return []
    apart = torch.cat([alone, other])
    off = _apart(apart, together) if apart.shape == together.shape else 1.0
    if off <= SAME_ANSWER:
        return []
    return [
        f"Clips of one batch change each other's logits (by {_percent(off)} of the largest): what a client sends "
        "depends on its whole batch. Give --batch as clients train."
    ]


def _answers_alike(model: VideoModel, clip: Tensor, answers: tuple[Tensor, Tensor], often: bool) -> Tensor | None:
    """Compare what one clip got twice; where `often`, again after another clip, whose logits are returned."""
    first, second = answers
    off = _apart(first, second)
    if off > SAME_ANSWER:
        raise NotAuditable(
            f"the model answers differently each time: two runs on one clip differ by {_percent(off)} of the largest "
            "logit",
            "switch off what draws random numbers or counts runs in forward, and begin every clip from the same state "
            "(a hidden state that is kept between calls); dropout is --dropout's matter",
        )
    if not often:
        return None
    with torch.no_grad():
        other = model(1 - clip)
        third = model(clip)
    off = _apart(first, third)
    if off > SAME_ANSWER:
        raise NotAuditable(
            f"the model remembers earlier clips: after another clip its logits differ by {_percent(off)} of the "
            "largest",
            "begin every clip from the same state in forward (a hidden state that is kept between calls)",
        )
    return other


def _percent(share: float) -> str:
    """Return a share that may be small in percent, to two digits.

    >>> _percent(0.00013), _percent(0.034), _percent(1.331)
    ('0.013%', '3.4%', '130%')
    """
    return f"{float(f'{share * 100:.2g}'):g}%"


def _apart(first: Tensor, other: Tensor) -> float:
    return float((first - other).abs().max() / first.abs().max().clamp(min=1e-3))
