"""A case of the catalogue with less work: attacks on one clip, and on request the changes of the protocol.

What an audit does besides is left out: positive controls, single layers, enhancement and a malicious server. So there
is no verdict. An attack that shows the first clip meets a second one too: only with a null control, the same attack on
the other clip's update, does its grade count.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from architecture_table import WORTH_DB

from auditor.attack import Attack, Preset
from auditor.exposure import Exposed
from auditor.options import ScanOptions
from auditor.pipeline.context import Context, Observed, unit_seed, view_of
from auditor.pipeline.defended.exposed_update import expose_update
from auditor.pipeline.documents.asides import variant_blocks
from auditor.pipeline.documents.baseline_variant import with_own_finding
from auditor.pipeline.documents.model import determined
from auditor.pipeline.findings import Finding, make_findings
from auditor.pipeline.progress import Silent
from auditor.pipeline.run_attack import run_attack
from auditor.pipeline.scan import pixel_variance
from auditor.pipeline.training import loss_of, observe_all, trained
from auditor.pipeline.units import Ran, Unit, seconds_per_step
from auditor.pipeline.what_if import Variant, strongest, variants
from auditor.probe import Galleries, probes_of_scenes
from auditor.records import Budget, Reconstruction, Target, work_of
from auditor.results.encode import document
from auditor.score import Grade

# Reference seconds of exposure's analysis at most, and of each attack on each clip for a step of its searches.
EXPOSURE, OF_STEP = 1.0, 0.02
# Of all changes, for a step of one of the strongest attacks: these have 0.4 of it, and share it by what a step costs,
# which is 6.5 times that of the update as it is: four times with four clips, and less where only the head is sent.
_OF_CHANGES = 0.008 * 6.5 / 0.4


def attacked(target: Target, options: ScanOptions, preset: Preset, *, changes: bool = False) -> dict[str, Any]:
    """Attack updates with the preset's steps a search; with `changes`, those of the protocol at the same effort too.

    Returns
    -------
    dict
        What a line of the catalogue tells of the updates.
    """
    context = trained(target, options, loss_of(options.loss, target))
    probes = probes_of_scenes(target.input, preset.probes)
    observed = observe_all(context, probes)
    galleries = Galleries(target.input, probes)
    blind = galleries[probes[0].name]
    variance = pixel_variance(blind)
    exposed = expose_update(context, observed[0], variance, EXPOSURE)
    findings: list[Finding] = []
    work = work_of(lambda: findings.extend(_findings(context, observed, preset, galleries)))
    made: tuple[Variant, ...] = ()
    if changes:
        pace, rivals = seconds_per_step(context, observed[0]), strongest(findings)
        seconds = len(rivals) * preset.steps * _OF_CHANGES
        made = variants(context, probes, blind, variance, seconds, pace, Silent(), rivals, preset.steps)
    counted = [d.share for d in determined(context) for _ in d.layers]
    told = exposed.all if isinstance(exposed, Exposed) else None
    return {
        "verdict": None, **_best(findings),
        "determined": [sum(share >= 1.0 for share in counted), len(counted)],
        "exposed": None if told is None else round(told.psnr, 4),
        "exposed_share": None if told is None else round(told.determined, 4),
        "recursion": max((_depth(f) for f in findings), default=0),
        "layers": [], "ranks": None, "withholding": None,
        "what_if": [document(v) for v in variant_blocks(with_own_finding(made, findings, observed[0].probe.name))],
        "work": round(work, 1), "steps": preset.steps,
    }  # fmt: skip


def _findings(
    context: Context, observed: tuple[Observed, ...], preset: Preset, galleries: Galleries
) -> tuple[Finding, ...]:
    """Attack the first clip with everything, and the others with what showed it."""
    ran = [one for attack in preset.attacks if (one := _run(context, observed, attack, 0, preset.steps)) is not None]
    # One clip alone rarely has a grade: what lies above a blind guess by as much as counts elsewhere meets another.
    first = make_findings(context, observed, ran, galleries)
    shown = [f for f in first if f.grade > Grade.NOT_SHOWN or any(r.score.gain >= WORTH_DB for r in f.results)]
    others = range(1, len(observed))
    ran += [
        one for f in shown for i in others if (one := _run(context, observed, f.attack, i, preset.steps)) is not None
    ]
    return make_findings(context, observed, ran, galleries)


def _run(context: Context, observed: tuple[Observed, ...], attack: Attack, clip: int, steps: int) -> Ran | None:
    seed = unit_seed(context.seed, attack.name, observed[clip].probe.name)
    made = run_attack(attack, view_of(context, observed[clip]), Budget(seconds=OF_STEP * steps, steps=steps), seed)
    if not isinstance(made, Reconstruction):
        return None
    return Ran(unit=Unit(attack=attack, truth=clip, update=clip, repetition=0), result=replace(made, checkpoints=()))


def _best(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return the nearest picture that no null control disproves, and the best grade that one holds up."""
    runs = [(r, f) for f in findings if f.null_at_chance is not False for r in f.results]
    if not runs:
        return {"best": None, "attack": None, "blind": None, "grade": Grade.NOT_SHOWN.name}
    result, finding = max(runs, key=lambda run: run[0].score.psnr)
    return {
        "best": round(min(result.score.psnr, 200.0), 4),
        "attack": finding.attack.name,
        "blind": round(max(result.score.baselines.values()), 4),
        "grade": max((f.grade for f in findings if f.counts), default=Grade.NOT_SHOWN).name,
    }


def _depth(finding: Finding) -> int:
    """Count the values that the deepest recursion read off exactly."""
    return max(sum(d.how != "sought" for d in r.reconstruction.depth) for r in finding.results)
