"""Single layers and the sets worth keeping back, in the work that a scan has for them."""

from collections.abc import Sequence

from auditor.attack import Preset
from auditor.exposure import Exposed
from auditor.pipeline.context import Context, Observed
from auditor.pipeline.deep.memory import available_bytes, not_held, too_large_to_match
from auditor.pipeline.findings import Finding
from auditor.pipeline.layerwise.partial_update import PartRecovered, Subject
from auditor.pipeline.layerwise.single_layers import LayerAttacks, attack_layers
from auditor.pipeline.layerwise.withholding import Audited, Withholding, withhold
from auditor.pipeline.progress import Display
from auditor.probe import Galleries
from auditor.records import Ceiling, Clock, Skipped, record
from auditor.score import Grade, grade_clip

# Of the work of the audit's own attacks, what the search for a set may take on top where layers were asked for: to
# confirm one takes 1.2 to 2 times what these did (twice the work on three clips, of five or of three), and two have to
# be.
SETS = 3.0
# Clips of which none may come back for a set to hold: those that every attack meets first. With two, the set that was
# confirmed for a small transformer gave a third clip away (benchmarks/README.md).
_CLIPS = 3


@record
class LayerStudy:
    """What single layers gave away, and what came of looking for a set to keep back."""

    found: LayerAttacks
    withholding: Withholding

    @property
    def shown(self) -> bool:
        """Whether a recognisable picture came of the whole update or of any part of it."""
        made = [self.found.whole, *(part for one in self.found.layers for part in (one.alone, one.without))]
        return any(isinstance(part, PartRecovered) and part.grade >= Grade.RECOGNISABLE for part in made)


def study_layers(
    context: Context,
    observed: Sequence[Observed],
    findings: Sequence[Finding],
    galleries: Galleries,
    preset: Preset,
    exposed: Exposed | None,
    wanted: int | None,
    seconds: float,
    pace: float,
    display: Display,
    ceiling: Ceiling,
    *,
    on_top: bool = False,
) -> LayerStudy | Skipped:
    """Attack single layers of the first clip's update, then look for the layers that are worth keeping back.

    `on_top` lets the search for these go on beyond `seconds`, as long as `SETS` allows.
    """
    clock = Clock(seconds)
    too_large = too_large_to_match(context, available_bytes(context.device))
    if too_large is not None:
        return not_held("single layers", too_large, stage="layers")
    real = [o for o in observed if o.probe.kind != "canary"][:_CLIPS] or observed[:1]
    subject, *others = (Subject(context=context, probe=o.probe, gallery=galleries[o.probe.name]) for o in real)
    found = attack_layers(subject, preset, exposed, real[0].update.gradients, wanted, seconds, pace, display, ceiling)
    tried = audited(findings, real[0], tuple(others))
    if not found.layers and isinstance(found.whole, Skipped) and not tried.shown:
        return found.whole
    more = SETS * seconds_of_attacks(findings) if on_top else 0.0
    sets = withhold(found, tried, preset, max(0.0, clock.left) + more, display, ceiling, asked=bool(wanted))
    return LayerStudy(found=found, withholding=sets)


def seconds_of_attacks(findings: Sequence[Finding]) -> float:
    """Return the reference seconds of all attacks that hold no frames of the scene."""
    return sum(r.reconstruction.seconds for finding in findings if not finding.reference for r in finding.results)


def audited(findings: Sequence[Finding], observed: Observed, others: tuple[Subject, ...]) -> Audited:
    """Return how hard the audit tried on a clip, and whether it found a recognisable picture of it."""
    runs = [
        (finding, result)
        for finding in findings
        if not finding.reference
        for result in finding.results
        if result.observed.probe.name == observed.probe.name
    ]
    seconds: dict[str, float] = {}
    for finding, result in runs:
        used = result.reconstruction.seconds
        seconds[finding.attack.name] = max(seconds.get(finding.attack.name, 0.0), used)
    by = frozenset(
        finding.attack.name
        for finding, result in runs
        if finding.counts and min(finding.grade, grade_clip(result.score)) >= Grade.RECOGNISABLE
    )
    spent = sum(result.reconstruction.seconds for _, result in runs)
    return Audited(seconds=seconds, shown=bool(by), others=others, by=by, spent=spent)


def single_layers_skipped(study: LayerStudy | Skipped | None) -> tuple[Skipped, ...]:
    """Return why no layer was attacked, where none was."""
    if isinstance(study, LayerStudy):
        whole = study.found.whole
        return (whole,) if isinstance(whole, Skipped) and not study.found.layers else ()
    return () if study is None else (study,)
