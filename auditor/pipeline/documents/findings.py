"""Findings as the records that are written."""

from collections.abc import Mapping, Sequence

from auditor.attack import Attack
from auditor.pipeline.deep.feature_maps import FeatureMap
from auditor.pipeline.deep.scaled_down import ScaledDown
from auditor.pipeline.diagnosis import Diagnosed
from auditor.pipeline.documents.pictures import pictured, strips
from auditor.pipeline.documents.wording import finding_assumes, summary
from auditor.pipeline.enhancement import Enhancement
from auditor.pipeline.findings import Finding
from auditor.pipeline.identity import Identity
from auditor.pipeline.scored.scoring import Result
from auditor.records import Skipped
from auditor.results.attempts import Attempt, Diagnosis
from auditor.results.audit import ScaledDownBlock
from auditor.results.declare import values_of
from auditor.results.findings import (
    DiagnosedBlock,
    EnhancedScore,
    EnhancementBlock,
    FacesBlock,
    FeatureMapBlock,
    FindingBlock,
    ResultBlock,
)
from auditor.results.severity import Rated
from auditor.score import FALSE_ACCEPT, SAME_PERSON, FaceMatch, grade_clip

_OWN = ("grade", "counts", "null_at_chance", "null_recall", "null_bits", "recall", "bits", "retrieval")
_GAINS = ("method", "scale", "gain_over_bicubic", "null", "null_gain", "added", "seconds")


def finding_blocks(
    findings: Sequence[Finding],
    enhanced: Mapping[int, tuple[Enhancement, ...]],
    diagnosed: Diagnosed | None = None,
    identities: Mapping[str, Identity] | None = None,
) -> tuple[FindingBlock, ...]:
    """Return every finding with its results, numbered; the best and median of each carry pictures."""
    known = identities or {}
    return tuple(
        _finding(f, number, enhanced, diagnosed, known.get(f.attack.name)) for number, f in enumerate(findings, start=1)
    )


def _finding(
    f: Finding,
    number: int,
    enhanced: Mapping[int, tuple[Enhancement, ...]],
    diagnosed: Diagnosed | None,
    identity: Identity | None,
) -> FindingBlock:
    shown = pictured(f)
    return FindingBlock(
        id=f"F{number}",
        rule="clip-reconstruction",
        attack=f.attack.name,
        family=f.attack.family,
        configuration=repr(f.attack),
        title=f.attack.title,
        source=f.attack.source,
        severity=Rated(**values_of(Rated, f.severity)),
        threat_model="C",
        reference=reference_kind(f.attack, f.reference),
        reference_frames=max((len(r.held) for r in f.results if r.held is not None), default=0),
        assumes=tuple(finding_assumes(f)),
        summary=summary(f),
        faces=None if identity is None else _faces(identity),
        diagnosis=_diagnosis(diagnosed) if diagnosed is not None and diagnosed.finding is f else None,
        results=tuple(_result(f, r, enhanced.get(id(r), ()), id(r) in shown) for r in f.results),
        **{name: getattr(f, name) for name in _OWN},
    )


def feature_map_blocks(maps: Sequence[FeatureMap]) -> tuple[FeatureMapBlock, ...]:
    """Return every inner value that was recovered, with the errors on each probe."""
    return tuple(
        FeatureMapBlock(
            attack=m.attack.name,
            severity=Rated(**values_of(Rated, m.severity)),
            **{
                name: getattr(m, name)
                for name in ("layer", "shape", "values", "per_pixel", "counts", "summary", "clips")
            },
        )
        for m in maps
    )


def scaled_down_block(found: ScaledDown | Skipped | None) -> ScaledDownBlock | None:
    """Return what smaller clips showed; None where they were not tried."""
    if not isinstance(found, ScaledDown):
        return None
    return ScaledDownBlock(
        shape=found.input.clip_shape,
        shown=found.shown,
        findings=finding_blocks(found.findings, {}),
        feature_maps=feature_map_blocks(found.maps),
    )


def reference_kind(attack: Attack, reference: bool) -> str:
    """R0 without reference frames, R1 with one, Rk with several."""
    if not reference:
        return "R0"
    return "R1" if attack.frames_of_scene == 1 else "Rk"


def _result(f: Finding, r: Result, enhanced: tuple[Enhancement, ...], with_pictures: bool) -> ResultBlock:
    return ResultBlock(
        **values_of(Attempt, r.reconstruction),
        probe=r.observed.probe.name,
        kind=r.observed.probe.kind,
        repetition=r.repetition,
        # One run proves no more than the finding that it belongs to.
        grade=min(grade_clip(r.score, with_reference=f.reference), f.grade),
        curve=r.curve,
        score=r.score,
        null=r.null,
        enhanced=tuple(enhancement_block(e) for e in enhanced),
        pictures=strips(r, enhanced) if with_pictures else None,
    )


def enhancement_block(e: Enhancement) -> EnhancementBlock:
    """Return one enhancement with its numbers and without its clips."""
    return EnhancementBlock(**values_of(EnhancedScore, e.score), **{name: getattr(e, name) for name in _GAINS})


def _diagnosis(d: Diagnosed) -> DiagnosedBlock:
    made = d.result.reconstruction
    return DiagnosedBlock(
        **values_of(Diagnosis, d.diagnosis),
        probe=d.result.observed.probe.name,
        seed=made.seed,
        psnr=d.result.score.psnr,
        objective=made.objective,
    )


def _faces(identity: Identity) -> FacesBlock:
    found = {
        name.replace(" ", "_"): FaceMatch(reason=match.reason) if isinstance(match, Skipped) else match
        for name, match in identity.found.items()
    }
    return FacesBlock(
        probe=identity.probe,
        threshold=SAME_PERSON,
        false_accept=FALSE_ACCEPT,
        **{name: found.get(name) for name in ("reconstruction", "enhanced", "null", "null_enhanced")},
    )
