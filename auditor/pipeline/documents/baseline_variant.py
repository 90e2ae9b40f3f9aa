"""The row of the what-if table that stands for the audit: the audit's own finding, where that went further."""

from collections.abc import Sequence
from dataclasses import replace

from auditor.pipeline.findings import Finding, Result
from auditor.pipeline.what_if import Variant
from auditor.score import Grade, grade_clip

# Two seeds of one search differ by less than this as a rule; what gained more had other steps or another clip.
_SAME_DB = 1.0


def with_own_finding(variants: Sequence[Variant], findings: Sequence[Finding]) -> tuple[Variant, ...]:
    """Return the variants with the audit's strongest result, without frames of the scene, in the audited row.

    Where that row was measured anew with fewer steps, or on another clip, the audit went further: its changes are then
    not compared, as each would look better for the smaller effort alone. A grade that no controlled finding has is not
    the audit's.
    """
    base = next((v for v in variants if v.baseline), None)
    if base is None or base.score is None:
        return tuple(variants)
    controlled = max((f.grade for f in findings if f.counts), default=Grade.NOT_SHOWN)
    row, why = replace(base, grade=min(base.grade or Grade.NOT_SHOWN, controlled)), ""
    own = _strongest(findings)
    if own is not None and (own[0], own[2].score.gain) > (row.grade, base.score.gain):
        grade, finding, result = own
        score = result.score
        row = replace(base, attack=finding.attack.name, score=score, grade=grade, steps=result.reconstruction.steps)
        if score.gain > base.score.gain + _SAME_DB:
            why = (
                f"the audit itself reached {score.gain:+.1f} dB on {result.observed.probe.name} by "
                f"{finding.attack.name}, and {base.score.gain:+.1f} dB with the effort of this comparison"
            )
    return tuple(
        row if v.baseline else replace(v, not_compared=v.not_compared or why) if why and not v.skipped else v
        for v in variants
    )


def _strongest(findings: Sequence[Finding]) -> tuple[Grade, Finding, Result] | None:
    made = [
        (min(grade_clip(result.score), finding.grade), finding, result)
        for finding in findings
        if finding.counts and not finding.reference
        for result in finding.results
        if result.observed.probe.kind != "canary"
    ]
    return max(made, key=lambda found: (found[0], found[2].score.gain), default=None)
