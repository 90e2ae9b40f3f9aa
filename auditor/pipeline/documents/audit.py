"""Assemble results.json (docs/results.md) from what was gathered."""

import datetime
import hashlib
from collections.abc import Mapping
from typing import Any

import torch

from auditor import __version__
from auditor.attack import Preset
from auditor.exposure import Exposed
from auditor.options import ScanOptions
from auditor.pipeline.context import Context, Observed
from auditor.pipeline.diagnosis import Diagnosed
from auditor.pipeline.documents.asides import malicious_block, membership_block, references_block, variant_blocks
from auditor.pipeline.documents.environment import environment_block
from auditor.pipeline.documents.findings import finding_blocks
from auditor.pipeline.documents.model import layer_blocks, model_block, probe_block, protocol_block
from auditor.pipeline.documents.wording import actions
from auditor.pipeline.enhancement import Enhancement
from auditor.pipeline.findings import Finding, LabelFinding
from auditor.pipeline.identity import Identity
from auditor.pipeline.malicious import MaliciousServer
from auditor.pipeline.membership import Membership
from auditor.pipeline.references import Copied, References
from auditor.pipeline.what_if import Variant
from auditor.records import Clock, Outcome, Skipped, record
from auditor.results.audit import (
    AUDIT,
    ActionBlock,
    AuditDocument,
    Control,
    ExposureBlock,
    GateBlock,
    LabelsBlock,
    ToolBlock,
    VerdictBlock,
)
from auditor.results.declare import values_of
from auditor.results.encode import document
from auditor.results.severity import Rated, SeverityBlock, SeverityInput
from auditor.score import FORMULA, Grade, Severity, Verdict, confidence, decide, gate, severity, unaccounted_for


@record
class Audit:
    """Everything that was found; `results` is the content of results.json (schema `fl-audit/results/2`)."""

    results: Mapping[str, Any]


@record
class Gathered:
    """Everything a scan measured."""

    options: ScanOptions
    preset: Preset
    started: datetime.datetime
    clock: Clock
    context: Context
    observed: tuple[Observed, ...]
    controls: tuple[Control, ...]
    failed: tuple[str, ...]
    untested: tuple[str, ...]
    exposed: Exposed | None
    findings: tuple[Finding, ...]
    diagnosed: Diagnosed | None
    labels: LabelFinding | None
    enhanced: Mapping[int, tuple[Enhancement, ...]]
    identities: Mapping[str, Identity]
    variants: tuple[Variant, ...]
    malicious: MaliciousServer | None
    membership: Membership | Skipped
    references: References
    copied: tuple[Copied, ...]
    skipped: tuple[Skipped, ...]
    device: torch.device
    pace: float


def assemble(g: Gathered) -> Audit:
    """Decide the verdict and write everything down."""
    target = g.context.target
    worst = _worst(g)
    cut_short = _cut_short(g)
    verdict = _verdict(g, cut_short)
    satisfied, code = gate(verdict.word, worst.score, worst.band, g.options.fail_on)
    sure = confidence(
        target.fidelity,
        failed_controls=g.failed + _failed_nulls(g),
        probes=len({r.observed.probe.name for f in g.findings for r in f.results if r.score.bits is None}),
        seeds=1 + max((r.repetition for f in g.findings for r in f.results), default=0),
        out_of_budget=cut_short,
        exact=any(f.counts and f.grade is Grade.EXACT for f in g.findings),
    )
    block = _exposure(g)
    return Audit(
        results=document(
            AuditDocument(
                schema=AUDIT,
                tool=_tool(g),
                model=model_block(g.context),
                protocol=protocol_block(g.context, g.observed[0], g.options.temporal_pool),
                probes=tuple(probe_block(o) for o in g.observed),
                controls=g.controls,
                findings=finding_blocks(g.findings, g.enhanced, g.diagnosed, g.identities),
                labels=_labels(g),
                exposure=block,
                layers=layer_blocks(g.context, g.exposed, block.reason or ""),
                what_if=variant_blocks(g.variants),
                membership=membership_block(g.membership),
                references=references_block(g.references, g.copied, any(f.reference for f in g.findings)),
                malicious_server=malicious_block(g.malicious),
                skipped=g.skipped,
                verdict=VerdictBlock(
                    **values_of(Verdict, verdict),
                    sentence=verdict.sentence,
                    gate=GateBlock(fail_on=g.options.fail_on, passed=satisfied),
                    exit_code=int(code),
                ),
                severity=_severity(worst),
                confidence=sure,
                actions=tuple(ActionBlock(**a) for a in actions(g.context, g.findings, g.variants, g.skipped)),
                environment=environment_block(g.device, g.pace),
            )
        )
    )


def _severity(s: Severity) -> SeverityBlock:
    """Severity with its formula and inputs."""
    inputs = {
        "fidelity": (s.fidelity, "how much of a clip the best reconstruction shows, 0 to 1"),
        "preconditions": (s.preconditions, "1 when the attacker needs only the update and public knowledge"),
        "reach": (s.reach, "share of probe clips and seeds on which it worked"),
    }
    return SeverityBlock(
        **values_of(Rated, s),
        formula=FORMULA,
        inputs={name: SeverityInput(value=round(v, 3), meaning=told) for name, (v, told) in inputs.items()},
    )


def _worst(g: Gathered) -> Severity:
    """Severity of the worst demonstrated case whose null control held."""
    nothing = severity(Grade.NOT_SHOWN, psnr=0.0, reach=0.0)
    cases = [f.severity for f in g.findings if f.counts] + ([g.labels.severity] if g.labels else [])
    cases += [g.membership.severity] if isinstance(g.membership, Membership) else []
    return max(cases, key=lambda s: s.score, default=nothing)


def _verdict(g: Gathered, cut_short: tuple[str, ...]) -> Verdict:
    grades = [f.grade for f in g.findings if f.counts] + ([g.labels.grade] if g.labels else [])
    grades += [g.membership.grade] if isinstance(g.membership, Membership) else []
    uncounted = [f for f in g.findings if not f.counts and f.grade > Grade.NOT_SHOWN]
    grade = max(grades, default=Grade.NOT_SHOWN)
    blocked = g.failed
    not_run: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    if grade < Grade.RECOGNISABLE:
        nulls = [(f.null_at_chance, f"null update: {f.attack.title}") for f in uncounted]
        blocked += tuple(f"{name} was not at chance" for at_chance, name in nulls if at_chance is False)
        not_run = (*g.untested, *(name for at_chance, name in nulls if at_chance is not False))
        hidden = unaccounted_for(g.context.target.fidelity)
    failures = (Outcome.DIVERGED, Outcome.UNVERIFIED)
    searched = [f for f in g.findings if any(r.reconstruction.outcome not in failures for r in f.results)]
    return decide(
        grade,
        failed_controls=blocked,
        hidden=hidden,
        not_run=not_run,
        exposure=None if g.exposed is None else g.exposed.all,
        out_of_budget=cut_short,
        attacked=bool(searched),
    )


def _failed_nulls(g: Gathered) -> tuple[str, ...]:
    return tuple(f.attack.title for f in g.findings if f.null_at_chance is False)


def _cut_short(g: Gathered) -> tuple[str, ...]:
    """Attacks that the budget kept from finishing; an attack that was exact has nothing left to gain."""
    unfinished = ("out-of-budget", "failed")
    left_out = [f"{s.what}: {s.reason}" for s in g.skipped if s.stage == "invert" and s.because in unfinished]
    falling = [
        f"{f.attack.name}: diverged in every run"
        for f in g.findings
        if all(r.reconstruction.outcome is Outcome.DIVERGED for r in f.results)
    ]
    for f in g.findings:
        count = sum(r.reconstruction.outcome is Outcome.OUT_OF_BUDGET for r in f.results)
        if count and f.grade < Grade.EXACT:
            falling.append(
                f"{f.attack.name}: still improving when its budget ended in {count} of {len(f.results)} runs"
            )
    return tuple(left_out + falling)


def _tool(g: Gathered) -> ToolBlock:
    identity = "\x1f".join(
        (__version__, g.context.target.sha256, str(sorted(g.options.as_json().items(), key=str)), g.started.isoformat())
    )
    return ToolBlock(
        name="fl-audit",
        version=__version__,
        audit_id=hashlib.sha256(identity.encode()).hexdigest()[:12],
        started=g.started.isoformat(timespec="seconds"),
        seconds=g.clock.used,
        preset=g.preset.name,
        seed=g.options.seed,
        command=g.options.command,
        max_time=g.clock.seconds,
        options=g.options.as_json(),
    )


def _labels(g: Gathered) -> LabelsBlock:
    if g.labels is None:
        guess = g.observed[0].guess
        why = guess.reason if isinstance(guess, Skipped) else ""
        return LabelsBlock(rule=None, interval=None, grade=None, reason=why)
    return LabelsBlock(rule=g.labels.rule, interval=g.labels.interval, grade=g.labels.grade, reason="")


def _exposure(g: Gathered) -> ExposureBlock:
    if g.exposed is None:
        reason = next((s.reason for s in g.skipped if s.stage == "expose"), "not measured")
        return ExposureBlock(
            all=None, modes=None, coverage=None, sigma=None, reason=reason, rank_correlation=None, probe=None
        )
    return ExposureBlock(
        all=g.exposed.all,
        modes=g.exposed.modes,
        coverage=g.exposed.coverage,
        sigma=g.exposed.all.sigma,
        reason="",
        rank_correlation=None,
        probe=g.observed[0].probe.name,
    )
