"""Tell of an audit's best search why it ended where it did."""

from collections.abc import Sequence

from auditor.attack import GradientMatching
from auditor.exposure import Exposed
from auditor.pipeline.context import Context, Observed
from auditor.pipeline.credibility import diagnose
from auditor.pipeline.findings import Finding
from auditor.pipeline.progress import Display
from auditor.pipeline.scored.scoring import Result
from auditor.pipeline.units import Unit, unit_view
from auditor.records import Budget, record
from auditor.results.attempts import Diagnosis
from auditor.score import Grade, grade_clip


@record
class Diagnosed:
    """The search that was started again at the truth, and what that says."""

    finding: Finding
    result: Result
    diagnosis: Diagnosis


def diagnose_best(
    context: Context,
    observed: Sequence[Observed],
    findings: Sequence[Finding],
    exposed: Exposed | None,
    seconds: float,
    display: Display,
) -> Diagnosed | None:
    """Start the best search at the truth; None where no search ran.

    It is asked of the clip whose exposure was measured (the first), where the search ran on it: the conclusion weighs
    one against the other.
    """
    best = _best(findings)
    if best is None or not isinstance(best.attack, GradientMatching):
        return None
    first = [r for r in best.results if r.observed is observed[0]]
    result = max(first or best.results, key=lambda r: r.score.gain)
    index = next(i for i, o in enumerate(observed) if o is result.observed)
    view = unit_view(context, observed, Unit(attack=best.attack, truth=index, update=index, repetition=0))
    with display.unit(f"{best.attack.title} started at the truth · {result.observed.probe.name}", seconds) as progress:
        found = diagnose(
            context,
            result.observed,
            best.attack,
            view,
            result.reconstruction,
            Budget(seconds=max(0.0, seconds), steps=result.reconstruction.steps, progress=progress),
            exact=grade_clip(result.score, with_reference=best.reference) is Grade.EXACT,
            exposure=exposed.all.psnr if exposed is not None and first else None,
        )
    return Diagnosed(finding=best, result=result, diagnosis=found)


def _best(findings: Sequence[Finding]) -> Finding | None:
    """The search with the largest gain on a scene; reference frames help a search, so it comes first without one."""
    searches = [f for f in findings if isinstance(f.attack, GradientMatching)]
    return max(
        searches,
        key=lambda f: (not f.reference, max((r.score.gain for r in f.results if r.score.bits is None), default=-1e9)),
        default=None,
    )
