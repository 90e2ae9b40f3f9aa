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
from auditor.pipeline.deep.feature_maps import FeatureMap
from auditor.pipeline.deep.scaled_down import ScaledDown
from auditor.pipeline.defended.privacy_claim import PrivacyClaim, judge_claim
from auditor.pipeline.diagnosis import Diagnosed
from auditor.pipeline.documents.asides import malicious_block, membership_block, references_block, variant_blocks
from auditor.pipeline.documents.baseline_variant import with_own_finding
from auditor.pipeline.documents.course import course_of
from auditor.pipeline.documents.environment import environment_block
from auditor.pipeline.documents.findings import feature_map_blocks, finding_blocks, scaled_down_block
from auditor.pipeline.documents.layer_attacks import layer_attacks_block, with_recoveries
from auditor.pipeline.documents.machine_cuts import machine_cuts, open_by_time
from auditor.pipeline.documents.model import layer_blocks, model_block, probe_block, protocol_block
from auditor.pipeline.documents.most_like import most_like
from auditor.pipeline.documents.wording import actions
from auditor.pipeline.enhancement import Enhancement
from auditor.pipeline.findings import Finding, LabelFinding
from auditor.pipeline.identity import Identity
from auditor.pipeline.layerwise.study_layers import LayerStudy
from auditor.pipeline.membership import Membership
from auditor.pipeline.planted.manipulation import MaliciousServer
from auditor.pipeline.planted.own_net_control import doubt
from auditor.pipeline.references import Copied, References
from auditor.pipeline.what_if import Variant
from auditor.records import Ceiling, Clock, Skipped, record
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
from auditor.results.updates.replay import ReplayAgreement
from auditor.score import (
    FORMULA,
    Course,
    Grade,
    Severity,
    Verdict,
    confidence,
    decide,
    gate,
    severity,
    unaccounted_for,
)


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
    ceiling: Ceiling
    context: Context
    observed: tuple[Observed, ...]
    controls: tuple[Control, ...]
    failed: tuple[str, ...]
    left_out: Mapping[str, tuple[str, ...]]
    claim: PrivacyClaim | None
    replayed: ReplayAgreement | None
    untested: tuple[str, ...]
    exposed: Exposed | None
    findings: tuple[Finding, ...]
    maps: tuple[FeatureMap, ...]
    smaller: ScaledDown | Skipped | None
    diagnosed: Diagnosed | None
    labels: LabelFinding | None
    enhanced: Mapping[int, tuple[Enhancement, ...]]
    identities: Mapping[str, Identity]
    variants: tuple[Variant, ...]
    single: LayerStudy | Skipped | None
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
    course = _course(g)
    verdict = decide(course)
    satisfied, code = gate(verdict.word, worst.score, worst.band, g.options.fail_on)
    sure = confidence(
        target.fidelity,
        failed_controls=g.failed + _failed_nulls(g),
        untested_controls=g.untested,
        probes=len({r.observed.probe.name for f in g.findings for r in f.results if r.score.bits is None}),
        seeds=1 + max((r.repetition for f in g.findings for r in f.results), default=0),
        out_of_budget=course.unfinished,
        exact=any(f.counts and f.grade is Grade.EXACT for f in g.findings),
        replayed=g.replayed,
        unadapted=tuple(dict.fromkeys(name for names in g.left_out.values() for name in names)),
    )
    gradients = g.observed[0].update.gradients
    single = layer_attacks_block(g.single, g.exposed, g.findings)
    block = _exposure(g, None if single is None or single.ranks is None else single.ranks.exposed)
    compared = with_own_finding(g.variants, g.findings, g.observed[0].probe.name)
    return Audit(
        results=document(
            AuditDocument(
                schema=AUDIT,
                tool=_tool(g),
                model=model_block(g.context),
                protocol=protocol_block(
                    g.context,
                    g.observed[0],
                    g.options.temporal_pool,
                    g.left_out,
                    manipulated=g.malicious is not None and any(m.score is not None for m in g.malicious.manipulations),
                ),
                probes=tuple(probe_block(o) for o in g.observed),
                controls=g.controls,
                findings=finding_blocks(g.findings, g.enhanced, g.diagnosed, g.identities),
                feature_maps=feature_map_blocks(g.maps),
                scaled_down=scaled_down_block(g.smaller),
                labels=_labels(g),
                exposure=block,
                layers=with_recoveries(
                    layer_blocks(g.context, g.exposed, block.reason or ""), g.context, gradients, g.single
                ),
                layer_attacks=single,
                most_like=most_like(target, g.context.protocol.clips_each),
                what_if=variant_blocks(compared),
                membership=membership_block(g.membership),
                references=references_block(g.references, g.copied, any(f.reference for f in g.findings)),
                malicious_server=malicious_block(g.malicious),
                skipped=g.skipped,
                machine_cuts=machine_cuts(g.ceiling, g.skipped),
                verdict=VerdictBlock(
                    **values_of(Verdict, verdict),
                    sentence=verdict.sentence,
                    gate=GateBlock(fail_on=g.options.fail_on, passed=satisfied),
                    exit_code=int(code),
                ),
                severity=_severity(worst),
                confidence=sure,
                actions=tuple(
                    ActionBlock(**a)
                    for a in actions(g.context, compared, g.skipped, None if single is None else single.withholding)
                ),
                replay=g.replayed,
                privacy=None if g.claim is None else judge_claim(g.claim, g.context.protocol, g.findings),
                environment=environment_block(g.device, g.pace),
            )
        )
    )


def _severity(s: Severity) -> SeverityBlock:
    """Severity with its formula and inputs."""
    inputs = {
        "fidelity": (
            s.fidelity,
            "0 without a recognisable picture or at 15 dB, 1 where it is exact",
        ),
        "preconditions": (
            s.preconditions,
            "1 for an attacker with the update alone, 0.5 with labels too, 0 with frames",
        ),
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
    cases += [m.severity for m in g.maps if m.counts]
    cases += [g.membership.severity] if isinstance(g.membership, Membership) else []
    return max(cases, key=lambda s: s.score, default=nothing)


def _course(g: Gathered) -> Course:
    return course_of(
        g.findings,
        g.labels,
        g.membership,
        g.skipped,
        None if g.exposed is None else g.exposed.all,
        g.diagnosed,
        failed_controls=g.failed,
        untested_controls=g.untested,
        maps=g.maps,
        hidden=(
            *unaccounted_for(g.context.target.fidelity),
            *_shown_on_smaller(g.smaller),
            *_shown_by_layers(g.single),
            *doubt(g.controls),
            *open_by_time(g.ceiling),
            *_differs(g.replayed),
        ),
    )


def _shown_on_smaller(smaller: ScaledDown | Skipped | None) -> tuple[str, ...]:
    shown = isinstance(smaller, ScaledDown) and smaller.shown
    return ("smaller clips were recovered from updates of the same weights",) if shown else ()


def _shown_by_layers(single: LayerStudy | Skipped | None) -> tuple[str, ...]:
    """A part of the update is no more than the update: what comes of it without a null control forbids a PASS."""
    shown = isinstance(single, LayerStudy) and single.shown
    return ("an attack on a part of the update recovered a recognisable picture",) if shown else ()


def _differs(replayed: ReplayAgreement | None) -> tuple[str, ...]:
    """Nothing found in what a client does not send means nothing."""
    return () if replayed is None or replayed.agrees else ("a replay found that clients send something else",)


def _failed_nulls(g: Gathered) -> tuple[str, ...]:
    return tuple(f.attack.title for f in g.findings if f.null_at_chance is False)


def _tool(g: Gathered) -> ToolBlock:
    identity = "\x1f".join(
        (__version__, g.context.target.sha256, str(sorted(g.options.as_json().items(), key=str)), g.started.isoformat())
    )
    return ToolBlock(
        name="fl-audit",
        version=__version__,
        audit_id=hashlib.sha256(identity.encode()).hexdigest()[:12],
        started=g.started.isoformat(timespec="seconds"),
        seconds=g.ceiling.used,
        preset=g.preset.name,
        seed=g.options.seed,
        command=g.options.command,
        max_time=g.options.max_time,
        options=g.options.as_json(),
        budget=g.clock.seconds,
        work=g.clock.used,
    )


def _labels(g: Gathered) -> LabelsBlock:
    if g.labels is None:
        guess = g.observed[0].guess
        why = guess.reason if isinstance(guess, Skipped) else ""
        return LabelsBlock(rule=None, interval=None, grade=None, reason=why)
    return LabelsBlock(
        rule=g.labels.rule,
        interval=g.labels.interval,
        grade=g.labels.grade,
        reason="",
        proven=g.labels.proven,
        severity=Rated(**values_of(Rated, g.labels.severity)),
    )


def _exposure(g: Gathered, ranks: float | None) -> ExposureBlock:
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
        rank_correlation=ranks,
        probe=g.observed[0].probe.name,
        products=g.exposed.products,
    )
