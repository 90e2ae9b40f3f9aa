"""What of an audit bears on its verdict, gathered from findings, controls and everything that was left out."""

from collections.abc import Iterator, Sequence

from auditor.pipeline.deep.feature_maps import FeatureMap
from auditor.pipeline.diagnosis import Diagnosed
from auditor.pipeline.findings import Finding, LabelFinding
from auditor.pipeline.membership import Membership
from auditor.pipeline.scored.scoring import Result
from auditor.records import Exposure, Outcome, Skipped
from auditor.results.attempts import Conclusion
from auditor.score import Course, Grade

# What else than missing information may end a search: its result says nothing of what the update holds then.
_SEARCH_FAILED = (Conclusion.OPTIMISER_FAILED, Conclusion.MISMATCH, Conclusion.WRONG_LABELS)
_FINISHED = (Outcome.SOLVED, Outcome.CONVERGED)
_UNFINISHED = ("out-of-budget", "out-of-memory", "failed")


def course_of(
    findings: Sequence[Finding],
    labels: LabelFinding | None,
    membership: Membership | Skipped,
    skipped: Sequence[Skipped],
    exposure: Exposure | None,
    diagnosed: Diagnosed | None,
    *,
    failed_controls: tuple[str, ...],
    untested_controls: tuple[str, ...],
    maps: Sequence[FeatureMap] = (),
    hidden: tuple[str, ...] = (),
) -> Course:
    """Return what happened as the verdict sees it; real clips alone are counted, canaries and textures are not."""
    grades = [f.grade for f in findings if f.counts]
    grades += [labels.grade] if labels else []
    grades += [membership.grade] if isinstance(membership, Membership) else []
    on_clips = [(f, r) for f in findings for r in f.results if r.observed.probe.kind in ("real", "user")]
    return Course(
        grade=max(grades, default=Grade.NOT_SHOWN),
        failed_controls=failed_controls,
        open_questions=(
            *hidden,
            *(f"the control '{name}' could not be run" for name in untested_controls),
            *_uncontrolled(findings),
        ),
        exposure=exposure,
        clips=len({r.observed.probe.name for _, r in on_clips}),
        tested_clips=len({r.observed.probe.name for _, r in on_clips if _tested(r)}),
        crashed=tuple(s.what for s in skipped if s.stage == "invert" and s.because == "failed"),
        unfinished=unfinished(findings, skipped),
        search_failed=_search_failed(diagnosed),
        feature_map=max((m.per_pixel for m in maps if m.counts), default=None),
    )


def _tested(result: Result) -> bool:
    return result.null is not None and result.reconstruction.outcome in _FINISHED


def _uncontrolled(findings: Sequence[Finding]) -> Iterator[str]:
    for f in findings:
        if not f.counts and f.grade > Grade.NOT_SHOWN:
            why = "was not at chance" if f.null_at_chance is False else "could not be run"
            yield f"{f.attack.title} reached {f.grade.name}, but its null control {why}"


def _search_failed(diagnosed: Diagnosed | None) -> str:
    if diagnosed is None or diagnosed.diagnosis.conclusion not in _SEARCH_FAILED:
        return ""
    return f"{diagnosed.finding.attack.title}: {diagnosed.diagnosis.conclusion.value}"


def unfinished(findings: Sequence[Finding], skipped: Sequence[Skipped]) -> tuple[str, ...]:
    """Return the attacks that the budget kept from finishing; what was exact has nothing left to gain."""
    left_out = [f"{s.what}: {s.reason}" for s in skipped if s.stage == "invert" and s.because in _UNFINISHED]
    falling = [
        f"{f.attack.name}: diverged in every run"
        for f in findings
        if all(r.reconstruction.outcome is Outcome.DIVERGED for r in f.results)
    ]
    for f in findings:
        count = sum(r.reconstruction.outcome is Outcome.OUT_OF_BUDGET for r in f.results)
        if count and f.grade < Grade.EXACT:
            falling.append(
                f"{f.attack.name}: still improving when its budget ended in {count} of {len(f.results)} runs"
            )
    return tuple(left_out + falling)
