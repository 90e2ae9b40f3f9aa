"""Suppositions about a client whose update is not the one expected, each fitted to what it sent."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from auditor.federated import LocalClient
from auditor.federated.supposed_training import SupposedTraining, supposed_update
from auditor.pipeline.captured.comparison import difference, inner, norm, scale, scaled
from auditor.pipeline.captured.noise import deviation, unlike_noise
from auditor.pipeline.context import Context
from auditor.records import BatchNormMode, Clips, Label, record
from auditor.text import printable

# Where steps of a fit end: slopes are those of a gradient, which changes by less than this over a round.
_FITS = 6
# Step of numerical slopes: float32 gradients are exact to about 1e-6. It ends with the number that is fitted, as steps
# that are longer than it cross kinks which the client's training did not.
_STEP, _SHORTEST = 1e-2, 1e-4
# Local steps that are tried. A client that takes more is described better by --local-epochs.
_MOST_STEPS = 10
# Explanations that leave this little are all exact. Where the best leaves under a tenth of the difference, those within
# a factor of two are as good as it: which comes first is then decided by how round their numbers are, as people set
# 0.05 and not 0.0483.
_EXACT, _AS_GOOD, _NEARLY_ALL = 1e-5, 2.0, 0.1
_DIGITS = 2
# Noise on 4,000 entries and more comes to 0.05 at most; differences of gradients to 0.3 and more (tests).
_NOISE = 0.1
# What is nearer than this is what rounding does.
_ROUNDING = 1e-5
_ERRORS = 4.0
_SHOWN = 3

Update = Mapping[str, Tensor]


@record
class Explanation:
    """One supposition, what of the update remains unexplained under it, and what was fitted."""

    cause: str
    text: str
    remaining: float
    value: float | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Replayed:
    """What was sent, and what is needed to simulate it under any supposition.

    Attributes
    ----------
    label, restored
        What the client is said to have trained the clip as, and what the update itself says; None where it does not.
    sent
        What travelled, by parameter.
    """

    context: Context
    clips: Clips
    label: Label
    restored: Label | None
    training: SupposedTraining
    sent: Update

    def under(
        self,
        training: SupposedTraining,
        *,
        clips: Clips | None = None,
        label: Label | None = None,
        client: LocalClient | None = None,
    ) -> dict[str, Tensor]:
        """Return what of the update of another client stands against what was sent."""
        client = client or self.context.client
        targets = client.targets((self.label if label is None else label,))
        made = supposed_update(client, self.clips if clips is None else clips, targets, training)
        return {name: made[name] for name in self.sent}

    @cached_property
    def ours(self) -> dict[str, Tensor]:
        """The update of the client as the options describe it."""
        return self.under(self.training)

    def left(self, made: Update) -> float:
        """Return what of the update remains unexplained by another one."""
        return difference(self.sent, made)


def explanations(found: Replayed) -> tuple[Explanation, ...]:
    """Return every supposition that explains some of the difference, the best first."""
    before = found.left(found.ours)
    made = [e for supposition in SUPPOSITIONS for e in supposition(found)]
    useful = [e for e in made if e.remaining < before and math.isfinite(e.remaining)]
    least = min((e.remaining for e in useful), default=0.0)
    as_good = max(_AS_GOOD * least, _EXACT) if least < _NEARLY_ALL * before else least
    best = sorted((e for e in useful if e.remaining <= as_good), key=lambda e: (_odd(e), e.remaining))
    return (*best, *sorted((e for e in useful if e.remaining > as_good), key=lambda e: e.remaining))


def not_sent(found: Replayed, idle: Sequence[str]) -> Explanation:
    """Return what remains where some parameters did not travel: trained and kept, or not trained at all."""
    named = ", ".join(printable(name, 60) for name in idle[:_SHOWN])
    names = f"{named}{f' and {len(idle) - _SHOWN} more' if len(idle) > _SHOWN else ''}"
    kept = found.left(found.ours) if found.sent else 0.0
    protocol = replace(found.context.protocol, sent=tuple(found.sent))
    frozen = found.left(found.under(found.training, client=found.context.client.under(protocol))) if kept else kept
    verb = "were" if len(idle) > 1 else "was"
    how = "not sent" if kept <= frozen else "neither trained nor sent"
    return Explanation(cause="not-sent", text=f"{names} {verb} {how}", remaining=min(kept, frozen))


def _odd(explanation: Explanation) -> float:
    """Return how far a fitted number is from one of two digits, relative to it; 0 where nothing was fitted."""
    value = explanation.value
    if value is None or value == 0.0:
        return 0.0
    off = abs(float(f"{value:.{_DIGITS - 1}e}") - value) / abs(value)
    return off if off > 1e-4 else 0.0


def _learning_rate(found: Replayed) -> Iterator[Explanation]:
    """Another step size; for one gradient a factor, which a client may have multiplied by its own."""
    if not found.training.local:
        by = scale(found.sent, found.ours)
        yield Explanation(
            cause="learning-rate",
            text=f"it is {by:.4g} times the gradient, as if sent with a learning rate",
            remaining=found.left(scaled(found.ours, by)),
            value=by,
        )
        return
    training, made = found.training, found.ours
    for _ in range(_FITS):
        rate = training.rate * scale(found.sent, made)
        if not rate > 0.0:
            return
        training = replace(training, rate=rate)
        made = found.under(training)
    yield Explanation(
        cause="learning-rate",
        text=f"the client's learning rate is {training.rate:.4g}, not {found.training.rate:g}",
        remaining=found.left(made),
        value=training.rate,
    )


def _fitted(found: Replayed, at: Callable[[float], Update], start: float, low: float, high: float) -> float:
    """Return the number under which an update is nearest to what was sent, by Gauss-Newton steps within bounds."""
    value, length = start, _STEP
    for _ in range(_FITS):
        here = at(value)
        there = at(value + length)
        slope = {name: (there[name] - g) / length for name, g in here.items()}
        size = inner(slope, slope)
        if size == 0.0:
            return value
        step = inner(_less(found.sent, here), slope) / size
        value = min(high, max(low, value + step))
        length = min(_STEP, max(_SHORTEST, value))
    return value


def _weight_decay(found: Replayed) -> Iterator[Explanation]:
    def at(decay: float) -> Update:
        return found.under(replace(found.training, decay=decay))

    decay = _fitted(found, at, 0.0, 0.0, math.inf)
    if decay > 0.0:
        yield Explanation(
            cause="weight-decay", text=f"the client decays weights by {decay:.4g}", remaining=found.left(at(decay)),
            value=decay,
        )  # fmt: skip


def _momentum(found: Replayed) -> Iterator[Explanation]:
    if found.training.steps < 2:  # the first step has none
        return

    def at(momentum: float) -> Update:
        return found.under(replace(found.training, momentum=momentum))

    momentum = _fitted(found, at, 0.5, 0.0, 0.999)
    yield Explanation(
        cause="momentum",
        text=f"the client's momentum is {momentum:.4g}, not {found.training.momentum:g}",
        remaining=found.left(at(momentum)),
        value=momentum,
    )


def _local_steps(found: Replayed) -> Iterator[Explanation]:
    if not found.training.local:
        return
    others = [n for n in range(1, _MOST_STEPS + 1) if n != found.training.steps]
    left = {n: found.left(found.under(replace(found.training, steps=n))) for n in others}
    best = min(left, key=lambda n: left[n])
    yield Explanation(
        cause="local-steps",
        text=f"the client took {best} local step{'s' * (best > 1)}, not {found.training.steps}",
        remaining=left[best],
    )


def _batchnorm(found: Replayed) -> Iterator[Explanation]:
    other: BatchNormMode = "train" if found.training.bn == "eval" else "eval"
    try:
        made = found.under(replace(found.training, bn=other))
    except ValueError:  # a single value a channel: no client trains so
        return
    yield Explanation(
        cause="batchnorm-mode",
        text=f"the client's BatchNorm is in {other} mode, not {found.training.bn}",
        remaining=found.left(made),
    )


def _precision(found: Replayed) -> Iterator[Explanation]:
    for kind in (torch.bfloat16, torch.float16):
        name = str(kind).removeprefix("torch.")
        rounded = {n: g.to(kind).float() for n, g in found.ours.items()}
        yield Explanation(
            cause=name, text=f"the update was rounded to {name} before it was sent", remaining=found.left(rounded)
        )
    made = found.under(replace(found.training, autocast=torch.bfloat16))
    yield Explanation(cause="bfloat16", text="the client computes in bfloat16 (autocast)", remaining=found.left(made))


def _clipping(found: Replayed) -> Iterator[Explanation]:
    size, whole = norm(found.sent), norm(found.ours)
    if 0.0 < size < whole:
        yield Explanation(
            cause="clipping",
            text=f"the update was clipped to a norm of {size:.4g}; it was {whole:.4g}",
            remaining=found.left(scaled(found.ours, size / whole)),
            value=size,
        )
    each = max(norm({n: s}) for n, s in found.sent.items())
    shrunk = {n: g * min(1.0, each / max(norm({n: g}), 1e-30)) for n, g in found.ours.items()}
    yield Explanation(
        cause="clipping", text=f"every parameter was clipped to a norm of {each:.4g}", remaining=found.left(shrunk),
        value=each,
    )  # fmt: skip
    most = max(float(s.abs().max()) for s in found.sent.values() if s.numel())
    yield Explanation(
        cause="clipping",
        text=f"every entry was clipped to +-{most:.4g}",
        remaining=found.left({n: g.clamp(-most, most) for n, g in found.ours.items()}),
        value=most,
    )


def _noise(found: Replayed) -> Iterator[Explanation]:
    """What is left, perhaps after a factor, looks like noise: nothing that is fitted explains noise."""
    factor = scale(found.sent, found.ours)
    made = scaled(found.ours, factor)
    sigma = deviation(_less(found.sent, made))
    # Noise by itself moves the factor by a few of its standard errors.
    if abs(factor - 1.0) * norm(found.ours) < _ERRORS * sigma:
        factor, made = 1.0, found.ours
    rest = _less(found.sent, made)
    unlike = unlike_noise(rest)
    if unlike > _NOISE or found.left(made) < _ROUNDING:
        return
    after = "" if factor == 1.0 else f", after the update was scaled by {factor:.4g}"
    yield Explanation(
        cause="noise",
        text=f"noise of deviation {deviation(rest):.4g} an entry was added{after}",
        remaining=found.left(made) * unlike,
        value=deviation(rest),
    )


def _less(sent: Update, made: Update) -> dict[str, Tensor]:
    return {name: s - made[name] for name, s in sent.items()}


def _augmentation(found: Replayed) -> Iterator[Explanation]:
    for what, change in _CHANGES.items():
        made = found.under(found.training, clips=change(found.clips))
        yield Explanation(cause="augmentation", text=f"the client's clip is {what}", remaining=found.left(made))


def _label(found: Replayed) -> Iterator[Explanation]:
    if found.restored is None or found.restored == found.label:
        return
    yield Explanation(
        cause="label",
        text=f"the client trained the clip as {found.restored}, not {found.label}",
        remaining=found.left(found.under(found.training, label=found.restored)),
    )


# (clip, frame, channel, height, width).
_CHANGES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "mirrored": lambda x: x.flip(-1),
    "upside down": lambda x: x.flip(-2),
    "mirrored and upside down": lambda x: x.flip(-1, -2),
    "played backwards": lambda x: x.flip(1),
    "in another order of colours": lambda x: x.flip(2),
}
SUPPOSITIONS: tuple[Callable[[Replayed], Iterator[Explanation]], ...] = (
    _learning_rate, _weight_decay, _momentum, _local_steps, _batchnorm, _precision, _clipping, _noise, _augmentation,
    _label,
)  # fmt: skip
