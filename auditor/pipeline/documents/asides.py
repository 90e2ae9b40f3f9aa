"""What stands beside the findings, as the records that are written."""

from collections.abc import Sequence

from auditor.pipeline.documents.pictures import thumbnail
from auditor.pipeline.membership import RULE, Asked, ClipAsked, Membership
from auditor.pipeline.planted.manipulation import THREAT, THREAT_TITLE, MaliciousServer, Manipulation
from auditor.pipeline.references import Copied, References
from auditor.pipeline.what_if import Variant
from auditor.records import Skipped
from auditor.results.asides import (
    ClipAskedBlock,
    CopyBlock,
    FrameBlock,
    MaliciousServerBlock,
    ManipulationBlock,
    MembershipBlock,
    ReferencesBlock,
    ServerThreat,
    VariantBlock,
)
from auditor.results.declare import values_of
from auditor.results.severity import Rated
from auditor.score import Grade

NOTE = (
    "A what-if: the server of this audit is honest, and nothing here counts in the verdict, the severity or the exit "
    "code. The manipulations are published recipes on the audited model; a server that knows the check can hide better."
)
# Frames of each kind that the report shows, of the first clip only: a table, not an album.
_SHOWN = 4
_COUNTED = (
    *("claims", "grade", "null_at_chance", "rate", "batch", "precision"),
    *("false_positives", "true_positives", "null", "clips_found"),
)
_ASKED = ("probe", "weight", "rank", "rows", "complete", "noise")
_MANIPULATED = (
    *("name", "change", "batch", "rounds", "steps", "exact", "certified", "share", "honest_share"),
    *("grade", "null_at_chance", "checks", "skipped"),
)


def membership_block(m: Membership | Skipped) -> MembershipBlock:
    """Return what was asked and answered, or why nothing could be asked."""
    if isinstance(m, Skipped):
        return MembershipBlock(rule=RULE, reason=m.reason, claims=False, grade=Grade.NOT_SHOWN, clips=())
    return MembershipBlock(
        rule=RULE,
        reason=m.silent,
        severity=Rated(**values_of(Rated, m.severity)),
        clips=tuple(_clip(m, c, first=i == 0) for i, c in enumerate(m.clips)),
        **{name: getattr(m, name) for name in _COUNTED},
    )


def _clip(m: Membership, c: ClipAsked, first: bool) -> ClipAskedBlock:
    return ClipAskedBlock(
        **{name: getattr(c, name) for name in _ASKED},
        threshold=c.test.threshold,
        calibrated=c.test.claims,
        calibration=c.test.false_positives,
        frames=tuple(_frame(m, a, first and place < _SHOWN) for place, a in _placed(c)),
    )


def _placed(c: ClipAsked) -> list[tuple[int, Asked]]:
    """Number the frames of each kind."""
    seen: dict[str, int] = {}
    placed = []
    for asked in c.asked:
        placed.append((seen.get(asked.kind, 0), asked))
        seen[asked.kind] = seen.get(asked.kind, 0) + 1
    return placed


def _frame(m: Membership, a: Asked, pictured: bool) -> FrameBlock:
    return FrameBlock(
        kind=a.kind,
        distance=a.distance,
        claim=a.called if m.claims else None,
        picture=thumbnail(a.frame) if pictured and a.kind != "another update" else None,
    )


def references_block(references: References, copied: Sequence[Copied], used: bool) -> ReferencesBlock | None:
    """Which frames attackers held, and how near these alone come to every clip; None where none was held or given."""
    if not used and references.given is None:
        return None
    unused = () if used else ("no attack that holds reference frames ran: they had no part in this audit",)
    return ReferencesBlock(
        source=references.source,
        given=references.given is not None,
        frames=None if references.given is None else len(references.given),
        notes=(*unused, *(n for c in copied for n in c.notes), *references.notes),
        copies=tuple(CopyBlock(**values_of(CopyBlock, c)) for c in copied),
    )


def variant_blocks(variants: tuple[Variant, ...]) -> tuple[VariantBlock, ...]:
    """Every variant, with differences to the audited protocol."""
    base = next((v for v in variants if v.baseline), None)
    return tuple(_variant(v, base) for v in variants)


def _variant(v: Variant, base: Variant | None) -> VariantBlock:
    exposure, gain = _exposure(v), None if v.score is None else v.score.gain
    before = None if base is None or base.score is None else base.score.gain
    return VariantBlock(
        name=v.name,
        change=v.change,
        baseline=v.baseline,
        exposure_psnr=exposure,
        delta_exposure=None if v.baseline else _difference(exposure, _exposure(base)),
        attack=v.attack,
        psnr=None if v.score is None else v.score.psnr,
        gain=gain,
        grade=v.grade,
        delta_gain=None if v.baseline else _difference(gain, before),
        steps=v.steps,
        skipped=v.skipped,
        not_compared=v.not_compared,
    )


def _exposure(v: Variant | None) -> float | None:
    return None if v is None or v.exposed is None else v.exposed.all.psnr


def _difference(now: float | None, before: float | None) -> float | None:
    return None if now is None or before is None else now - before


def malicious_block(found: MaliciousServer | None) -> MaliciousServerBlock | None:
    """Every manipulation with its score, its null control and what the client's check says; None if none was tried."""
    if found is None:
        return None
    return MaliciousServerBlock(
        threat_model=ServerThreat(id=THREAT, title=THREAT_TITLE),
        note=NOTE,
        audited=found.audited,
        manipulations=tuple(_manipulation(m) for m in found.manipulations),
    )


def _manipulation(m: Manipulation) -> ManipulationBlock:
    return ManipulationBlock(
        **{name: getattr(m, name) for name in _MANIPULATED},
        attack=m.attack.name,
        source=m.attack.source,
        psnr=None if m.score is None else m.score.psnr,
        gain=None if m.score is None else m.score.gain,
        null_gain=None if m.null is None else m.null.gain,
        honest_psnr=None if m.honest is None else m.honest.psnr,
        honest_gain=None if m.honest is None else m.honest.gain,
        detected=bool(m.detected) if m.checks else None,
        answer=_answer(m),
    )


def _answer(m: Manipulation) -> str:
    """What the client's check says of the model that this server hands out."""
    if not m.checks:
        return "the check was not made"
    if not m.detected:
        return "the client-side check sees nothing unusual in this model"
    told = "; ".join(f"{c.name} ({c.measured})" for c in m.detected)
    return f"this model change is detectable before training: {told}"
