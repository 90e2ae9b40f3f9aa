"""Inner values that a recursion recovered exactly, held against the truth: findings of their own beside pictures."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from auditor.attack import Attack
from auditor.pipeline.context import Context, Observed
from auditor.pipeline.units import Ran
from auditor.probe import alike
from auditor.records import Reconstruction, RecoveredActivation, record
from auditor.results.findings import MappedClip
from auditor.results.severity import EXACT_MAP
from auditor.score import Severity, severity_of_map


@record
class FeatureMap:
    """What one layer reads, as an attack recovered it from the updates of one or several probes."""

    attack: Attack
    layer: str
    shape: tuple[int, ...]
    per_pixel: float
    clips: tuple[MappedClip, ...]

    @property
    def values(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)

    @property
    def recovered(self) -> tuple[MappedClip, ...]:
        """The probes whose value is right, and further from that of any other clip."""
        return tuple(c for c in self.clips if _holds(c))

    @property
    def counts(self) -> bool:
        """Whether it may raise the verdict: recovered, with a null control that held, on some probe."""
        return bool(self.recovered)

    @property
    def severity(self) -> Severity:
        """Severity of an exact inner value without a picture; none where it does not count."""
        return severity_of_map(self.per_pixel, len(self.recovered) / len(self.clips))

    @property
    def summary(self) -> str:
        """One sentence on what was recovered and what that means."""
        size = f"{self.values:,} numbers, {self.per_pixel:.2g} for each pixel value"
        if not self.counts:
            return f"{self.attack.title} claims what {self.layer} reads ({size}), which did not hold against the truth."
        best = min(self.recovered, key=lambda c: c.error or 0.0)
        return (
            f"{self.attack.title} recovered what {self.layer} reads ({size}) on {len(self.recovered)} of "
            f"{len(self.clips)} clips: off by {best.error:.1g} of its size on {best.probe}, {best.null_error:.1g} for "
            "another clip. It is no picture, but all that the layers above see of the clip."
        )


def feature_maps(context: Context, observed: Sequence[Observed], ran: Sequence[Ran]) -> tuple[FeatureMap, ...]:
    """Return every inner value that an attack recovered whole, the one with the most numbers first."""
    found: dict[tuple[str, str], list[tuple[Ran, RecoveredActivation]]] = {}
    for one in ran:
        made = one.result
        if isinstance(made, Reconstruction) and made.activation is not None and not one.unit.is_null:
            found.setdefault((one.unit.attack.name, made.activation.weight), []).append((one, made.activation))
    maps = [_map(context, observed, layer, held) for (_, layer), held in found.items()]
    return tuple(sorted(maps, key=lambda m: (-m.counts, -m.values)))


def _map(
    context: Context, observed: Sequence[Observed], layer: str, held: Sequence[tuple[Ran, RecoveredActivation]]
) -> FeatureMap:
    truths = _truths(context, observed, layer)
    clips = []
    for one, made in held:
        truth = one.unit.truth
        others = [i for i in truths if i != truth and not alike(observed[i].probe, observed[truth].probe)]
        assert isinstance(one.result, Reconstruction)
        clips.append(
            MappedClip(
                probe=observed[truth].probe.name,
                error=_error(made.value, truths[truth]) if truth in truths else None,
                null_error=min((_error(made.value, truths[i]) for i in others), default=None),
                residual=max(d.residual for d in one.result.depth if layer in d.weights),
            )
        )
    first, made = held[0]
    shape = _shape(made.value, len(observed[first.unit.update].clips))
    return FeatureMap(
        attack=first.unit.attack,
        layer=layer,
        shape=shape,
        per_pixel=math.prod(shape) / math.prod(context.input.clip_shape),
        clips=tuple(clips),
    )


def _truths(context: Context, observed: Sequence[Observed], layer: str) -> Mapping[int, Tensor]:
    """Return what the layer reads of every true clip; nothing where that cannot be observed."""
    model = context.target.model
    model.batchnorm(context.protocol.bn)
    try:
        with torch.no_grad():
            return {i: model.inputs_of(layer, o.clips[:1])[0].double() for i, o in enumerate(observed)}
    except LookupError:
        return {}


def _shape(value: Tensor, clips: int) -> tuple[int, ...]:
    """Return the shape of one clip's value: a net that reads frames one by one holds them on the first axis."""
    rows = value.shape[0] // clips
    return (*((rows,) if rows > 1 else ()), *value.shape[1:])


def _error(made: Tensor, truth: Tensor) -> float:
    """Return how far the nearest of the recovered clips is from the truth: an update does not tell their order."""
    size = float(truth.norm())
    if made.numel() % truth.numel() or size == 0.0:
        return math.inf
    rows = made.double().reshape(-1, truth.numel()) - truth.flatten()
    return float(rows.norm(dim=1).min()) / size


def _holds(clip: MappedClip) -> bool:
    right = clip.error is not None and clip.error <= EXACT_MAP
    return right and clip.null_error is not None and clip.null_error > EXACT_MAP
