"""Whether the person in a clip is recognised in what an attack made of its update."""

from collections.abc import Mapping, Sequence

from auditor.pipeline.enhancement import Enhancement, best_result
from auditor.pipeline.findings import Finding
from auditor.pipeline.progress import Display
from auditor.pipeline.scored.scoring import Result
from auditor.records import Ceiling, Clip, Clock, Skipped, charged, counting, record
from auditor.score import FaceMatch, FaceRecogniser

# Reference seconds of a match: four frames of 1024 pixels of the truth and four of the estimate, measured on one core.
_SECONDS = 3.0
# Set apart where it is asked for: the best clip of the worst finding, enhanced too, and its null.
SECONDS_TO_RECOGNISE = 12.0


@record
class Identity:
    """Matches of one finding's best clip with the true frames at native size, by what was looked at."""

    probe: str
    found: Mapping[str, FaceMatch | Skipped]


@counting()
def recognised(
    findings: Sequence[Finding],
    enhanced: Mapping[int, tuple[Enhancement, ...]],
    recogniser: FaceRecogniser | None,
    seconds: float,
    display: Display,
    ceiling: Ceiling | None = None,
) -> dict[str, Identity]:
    """Look for the person in the best clip of every finding, enhanced or not, and in its null; by attack.

    Where the budget ends, the reason stands in place of a match. No grade depends on it.
    """
    if recogniser is None:
        return {}
    clock, ceiling = Clock(seconds), ceiling or Ceiling()
    display.stage("face identity")
    return {f.attack.name: _identity(best_result(f), enhanced, recogniser, clock, ceiling) for f in findings}


def _identity(
    result: Result,
    enhanced: Mapping[int, tuple[Enhancement, ...]],
    recogniser: FaceRecogniser,
    clock: Clock,
    ceiling: Ceiling,
) -> Identity:
    shown: dict[str, Clip | None] = {"reconstruction": result.clip, "null": result.null_clip}
    improved = enhanced.get(id(result), ())
    if improved:
        shown["enhanced"], shown["null enhanced"] = improved[-1].clip, improved[-1].null_clip
    probe = result.observed.probe
    found: dict[str, FaceMatch | Skipped] = {}
    for name, clip in shown.items():
        if clip is None:
            continue
        late = ceiling.too_late("score", f"face identity, {name}", _SECONDS)
        if late is not None or clock.left <= _SECONDS:
            found[name] = late or _no_time(clock.left)
            continue
        with charged(_SECONDS):
            found[name] = recogniser.match(probe.native, clip)
    return Identity(probe=probe.name, found=found)


def _no_time(left: float) -> Skipped:
    return Skipped(
        stage="score",
        what="face identity",
        because="out-of-budget",
        reason=f"it is about {_SECONDS:.0f} s of work, and {max(0.0, left):.0f} s were left",
        remedy="give more --max-time",
    )
