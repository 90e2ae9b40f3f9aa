"""Was this frame in the client's clip? Asked of every update whose shared weight spans the frames' features."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from auditor.attack import FrameSpan, frame_features, frame_spans
from auditor.pipeline.context import Context, Observed, observe_probes, view_of
from auditor.probe import PICTURES, camera, same_camera, scene_frames, shipped_probes
from auditor.records import Clip, Clock, Skipped, View, counting, record
from auditor.score import (
    Grade,
    Interval,
    MembershipTest,
    Severity,
    calibrate_membership,
    clearly_above_chance,
    proportion,
    severity,
)

RULE = "frame-membership"
# The false-positive rate that every claim states: as many frames that were not in the clip may be called members.
RATE = 0.05
# Frames asked of every other scene, and of the clip's own camera: six of each of the five scenes or more of other
# cameras are enough to show a rate of 5% (20 at least).
_OTHERS, _SAME = 3, 6
# What of defences leaves the span of a gradient's rows as it is.
_MET = ("scale", "omission", "sum")
# In steps of gradient matching: rehearsing on the shipped clips, and asking one clip.
_PASSES, _PASSES_EACH = 20, 5


Kind = Literal["member", "same camera", "other scene", "another update"]


@record
class Asked:
    """One frame, whose it is (`member`, `same camera`, `other scene`, `another update`), and what the test says of it.

    `another update` is a frame of the clip, asked of another client's update: the null control. `called` is what the
    threshold says; a claim is made only where `Membership.claims` is true.
    """

    kind: Kind
    frame: Clip
    distance: float
    called: bool


@record
class ClipAsked:
    """The frames that were asked of one clip's update, and the threshold that was calibrated for it."""

    probe: str
    weight: str
    rank: int
    rows: int
    complete: bool
    noise: float
    test: MembershipTest
    asked: tuple[Asked, ...]

    @property
    def found(self) -> bool:
        """Whether most frames of the clip are called members."""
        return 2 * sum(a.called for a in self.asked if a.kind == "member") > self.count("member")

    def count(self, kind: str) -> int:
        """Count the frames of a kind."""
        return sum(a.kind == kind for a in self.asked)


@record
class Membership:
    """What the audit's updates tell of single frames.

    Attributes
    ----------
    false_positives
        Frames that were not in the clip and were called members, same camera and other scenes; chance is the rate.
    true_positives
        Frames of the clips that were called members.
    null
        The same frames against another client's update.
    clips_found
        Clips most of whose frames were called members: frames of one clip are alike, so clips are the trials.
    silent
        Why no claim is made, or empty.
    """

    rate: float
    batch: int
    precision: str
    clips: tuple[ClipAsked, ...]
    false_positives: Interval
    true_positives: Interval
    null: Interval
    clips_found: Interval
    silent: str

    @property
    def claims(self) -> bool:
        """Whether any frame is claimed to have been in a clip."""
        return not self.silent

    @property
    def null_at_chance(self) -> bool | None:
        """Whether another update says no more than the rate allows; None where there was none to ask."""
        return None if not self.null.trials else self.null.hits <= self.rate * self.null.trials

    @property
    def grade(self) -> Grade:
        """GIST at most: which frames were there, not what they show."""
        shown = self.claims and self.null_at_chance is True and clearly_above_chance(self.clips_found)
        return Grade.GIST if shown else Grade.NOT_SHOWN

    @property
    def severity(self) -> Severity:
        """That of a label: the attacker must own the frame, and learns one bit of it."""
        share = self.true_positives.hits / max(self.true_positives.trials, 1)
        return severity(self.grade, psnr=0.0, reach=share, knows="reference", label_only=True)


@counting()
def ask_membership(context: Context, observed: Sequence[Observed], clock: Clock, pace: float) -> Membership | Skipped:
    """Ask, of every attacked scene, frames of its clip and frames that were not in it.

    The attacker calibrates on clips of its own, of other cameras (the shipped ones): it simulates a client on each, and
    asks frames of the same camera that were not in it, which are the hardest to tell from members. The auditor then
    counts how often the test errs, on frames that the threshold has not seen; where that is more often than stated,
    nothing is claimed.
    """
    unknown = next((d for d in context.client.defences if d.effect not in _MET), None)
    if unknown is not None:
        return _skipped("not-applicable", f"it does not know the defence {unknown}: spans are read off exact gradients")
    if context.input.channels not in PICTURES:
        return _skipped("not-applicable", f"no shipped scene has {context.input.channels} channels to calibrate on")
    scenes = [i for i, o in enumerate(observed) if o.probe.kind in ("real", "user")]
    reachable = [i for i in scenes if _span(context, observed[i]) is not None] if scenes else []
    if not reachable:
        return _skipped("not-applicable", "no weight that is shared over time spans the frames' features")
    if _PASSES * pace > clock.left:
        return _no_time(clock, pace)
    nulls, others = _rehearsed(context), scene_frames(context.input, _OTHERS)
    if not nulls:
        reason = f"clips of {context.input.frames} frames leave no other frame of the shipped scenes to calibrate on"
        return _skipped("not-applicable", reason)
    clips = []
    for i in reachable:
        if _PASSES_EACH * pace > clock.left:
            break
        asked = _ask(context, observed, i, nulls, others)
        if asked is not None:
            clips.append(asked)
    if not clips:
        return _no_time(clock, pace)
    return judge(clips, context.protocol.batch, observed[reachable[0]].update.precision)


def _rehearsed(context: Context) -> dict[str, list[float]]:
    """Return, for every shipped clip, the distances of frames of its camera that were not in it, as rehearsed."""
    found = {}
    for seen in observe_probes(context, shipped_probes(context.input)):
        near, span = same_camera(seen.probe, context.input, _SAME), _span(context, seen)
        if near is not None and span is not None:
            found[seen.probe.name] = _distances(context, *span, near)
    return found


def judge(clips: Sequence[ClipAsked], batch: int, precision: str, rate: float = RATE) -> Membership:
    """Count hits and errors over all clips, and tell whether a claim may be made."""
    wrong = _rate(clips, ("same camera", "other scene"), rate)
    null = _rate(clips, ("another update",), rate)
    found = proportion(sum(c.found for c in clips), len(clips), rate)
    return Membership(
        rate=rate,
        batch=batch,
        precision=precision,
        clips=tuple(clips),
        false_positives=wrong,
        true_positives=_rate(clips, ("member",), rate),
        null=null,
        clips_found=found,
        silent=_silence(clips, wrong, null, rate),
    )


def _silence(clips: Sequence[ClipAsked], wrong: Interval, null: Interval, rate: float) -> str:
    uncalibrated = [c.probe for c in clips if not c.test.claims]
    if len(uncalibrated) == len(clips):
        return (
            f"thresholds from other scenes call more than {rate:.0%} of a scene left out members, "
            "or too few null frames show the stated rate"
        )
    if wrong.trials * rate < 1.0:
        return f"{wrong.trials} frames that were not in the clips are too few to show a rate of {rate:.0%}"
    # Each sort by itself: frames of other scenes are easy, and many would hide errors on those of the same camera.
    for kind in ("same camera", "other scene"):
        errors = _rate(clips, (kind,), rate)
        if errors.hits > rate * errors.trials:
            return (
                f"{errors.hits} of {errors.trials} frames that were not in the clip ({kind}) would be called members, "
                f"more than the stated {rate:.0%}"
            )
    if null.hits > rate * null.trials:
        return f"another client's update would claim {null.hits} of {null.trials} of the frames"
    return ""


def _rate(clips: Sequence[ClipAsked], kinds: Sequence[str], rate: float) -> Interval:
    asked = [a for c in clips for a in c.asked if a.kind in kinds]
    return proportion(sum(a.called for a in asked), len(asked), rate)


def _span(context: Context, observed: Observed) -> tuple[View, FrameSpan] | None:
    view = view_of(context, observed)
    span = next(frame_spans(view), None)
    return None if span is None else (view, span)


def _ask(
    context: Context,
    observed: Sequence[Observed],
    index: int,
    nulls: Mapping[str, list[float]],
    others: Mapping[str, Clip],
) -> ClipAsked | None:
    probe = observed[index].probe
    found = _span(context, observed[index])
    if found is None:
        return None
    own = camera(probe.name) if probe.kind == "real" else ""
    foreign = [distances for name, distances in nulls.items() if camera(name) != own]
    if len(foreign) < 2:
        return None
    span = found[1]
    test = calibrate_membership(foreign, rate=RATE, noise=span.noise if span.complete else None)
    asked = _judged(context, found, test, "member", probe.clip)
    near = same_camera(probe, context.input, _SAME)
    if near is not None:
        asked += _judged(context, found, test, "same camera", near)
    for name, frames in others.items():
        if camera(name) != own:
            asked += _judged(context, found, test, "other scene", frames)
    foreign_update = _span(context, observed[_other(observed, index)]) if len(observed) > 1 else None
    if foreign_update is not None:
        asked += _judged(context, foreign_update, test, "another update", probe.clip)
    return ClipAsked(
        probe=probe.name,
        weight=span.weight,
        rank=span.rank,
        rows=span.rows,
        complete=span.complete,
        noise=span.noise,
        test=test,
        asked=tuple(asked),
    )


def _other(observed: Sequence[Observed], index: int) -> int:
    """A canary is of no scene; without one, the next clip."""
    canaries = [i for i, o in enumerate(observed) if o.probe.kind == "canary" and i != index]
    return canaries[0] if canaries else (index + 1) % len(observed)


def _judged(
    context: Context, found: tuple[View, FrameSpan], test: MembershipTest, kind: Kind, frames: Clip
) -> list[Asked]:
    distances = _distances(context, *found, frames)
    return [
        Asked(kind=kind, frame=frame, distance=d, called=called)
        for frame, d, called in zip(frames, distances, test.members(distances), strict=True)
    ]


def _distances(context: Context, view: View, span: FrameSpan, frames: Tensor) -> list[float]:
    with torch.no_grad():
        found: list[float] = span.distance(frame_features(view, span.weight, frames.to(context.device))).tolist()
    return found


def _no_time(clock: Clock, pace: float) -> Skipped:
    reason = f"asking is up to {_PASSES * pace:.2g} s of work, and {max(0.0, clock.left):.0f} s were left"
    return _skipped("out-of-budget", reason)


def _skipped(because: Literal["not-applicable", "out-of-budget"], reason: str) -> Skipped:
    remedy = "give more --max-time" if because == "out-of-budget" else ""
    return Skipped(stage="membership", what="frame membership", because=because, reason=reason, remedy=remedy)
