"""The row of the what-if table that stands for the audit: the audit's own finding, where that went further."""

from collections.abc import Sequence
from dataclasses import replace

from auditor.pipeline.findings import Finding
from auditor.pipeline.scored.scoring import Result
from auditor.pipeline.what_if import Variant
from auditor.score import Grade, grade_clip

# Two seeds of one search differ by less than this as a rule; what gained more had other steps.
_SAME_DB = 1.0


def with_own_finding(variants: Sequence[Variant], findings: Sequence[Finding], probe: str) -> tuple[Variant, ...]:
    """Return the variants with the audit's own result on their clip, without frames of the scene, in the audited row.

    Where that row was measured anew with fewer steps, the audit went further: its changes are then not compared, as
    each would look better for the smaller effort alone. The grade is the audit's, whichever clip it was reached on, and
    none that no controlled finding has.
    """
    base = next((v for v in variants if v.baseline), None)
    if base is None or base.score is None:
        return tuple(variants)
    controlled = max((f.grade for f in findings if f.counts), default=Grade.NOT_SHOWN)
    made = _results(findings)
    grade = max((found[0] for found in made), default=Grade.NOT_SHOWN)
    row, why = replace(base, grade=max(min(base.grade or Grade.NOT_SHOWN, controlled), grade)), ""
    own = max((m for m in made if m[2].observed.probe.name == probe), key=lambda m: m[2].score.gain, default=None)
    if own is not None and own[2].score.gain > base.score.gain:
        _, finding, result = own
        score = result.score
        row = replace(row, attack=finding.attack.name, score=score, steps=result.reconstruction.steps)
        if score.gain > base.score.gain + _SAME_DB:
            why = (
                f"the audit itself reached {score.gain:+.1f} dB on this clip by {finding.attack.name}, and "
                f"{base.score.gain:+.1f} dB with the effort of this comparison"
            )
    return tuple(
        row if v.baseline else replace(v, not_compared=v.not_compared or why) if why and not v.skipped else v
        for v in variants
    )


def _results(findings: Sequence[Finding]) -> list[tuple[Grade, Finding, Result]]:
    return [
        (min(grade_clip(result.score), finding.grade), finding, result)
        for finding in findings
        if finding.counts and not finding.reference
        for result in finding.results
        if result.observed.probe.kind != "canary"
    ]
