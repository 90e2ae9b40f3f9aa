"""Super-resolution of the best reconstructions, each beside the same on its null."""

from collections.abc import Sequence

from torch.nn import functional

from auditor.enhance import DatLight, bicubic
from auditor.errors import AuditError
from auditor.pipeline.findings import Finding, Result, best_of
from auditor.pipeline.watch import Watch
from auditor.probe import Galleries
from auditor.records import Clip, Clips, Clock, Enhanced, Skipped, record
from auditor.score import psnr, rank, ssim_frames

SCALE = 2
# Timing the network takes about two seconds on two cores at 32x32 pixels.
_TO_MEASURE = 3.0


@record
class EnhancedScore:
    """Numbers of an enhanced clip against the clip before it was resized to the model's input."""

    psnr: float
    ssim: float
    rank: int


@record
class Enhancement:
    """One method on one reconstruction and on its null."""

    method: str
    scale: int
    clip: Clip
    score: EnhancedScore
    gain_over_bicubic: float
    null: EnhancedScore | None


def enhance_results(
    findings: Sequence[Finding], galleries: Galleries, seconds: float, watch: Watch
) -> tuple[dict[int, tuple[Enhancement, ...]], tuple[Skipped, ...]]:
    """Enhance the best clip of every finding while time lasts; keyed by `id(result)`.

    The grade of a finding never depends on what enhancement adds: a prior can paint a plausible person from noise.
    """
    clock = Clock(seconds)
    done: dict[int, tuple[Enhancement, ...]] = {}
    chosen = [best_result(f) for f in findings]
    if not chosen:
        return done, ()
    if clock.left < _TO_MEASURE:
        reason = f"{max(0.0, clock.left):.0f} s were left, too few to time it"
        return done, (
            Skipped(
                stage="enhance", what="DAT-light", because="out-of-budget", reason=reason, remedy="give more --max-time"
            ),
        )
    try:
        dat = DatLight(SCALE)
        needed = dat.seconds_estimate(chosen[0].clip.shape)
    except AuditError as error:
        return done, (
            Skipped(stage="enhance", what="DAT-light", because="failed", reason=error.cause, remedy=error.remedy),
        )
    skipped = []
    for finding, result in zip(findings, chosen, strict=True):
        runs = 1 if result.null_clip is None else 2
        if needed * runs > clock.left:
            skipped.append(
                Skipped(
                    stage="enhance",
                    what=f"DAT-light on {finding.attack.title}",
                    because="out-of-budget",
                    reason=f"it takes about {needed * runs:.0f} s and {max(0.0, clock.left):.0f} s were left",
                    remedy="give more --max-time",
                )
            )
            continue
        with watch.unit(f"DAT-light x{SCALE} · {finding.attack.title}", needed * runs):
            done[id(result)] = _enhance(result, dat, galleries[result.observed.probe.name])
    return done, tuple(skipped)


def best_result(finding: Finding) -> Result:
    """The result that stands for the finding."""
    return best_of(finding.results, finding.reference)


def _enhance(result: Result, dat: DatLight, gallery: Clips) -> tuple[Enhancement, ...]:
    simple = bicubic(result.clip, SCALE)
    learned = dat(result.clip)
    null_simple = None if result.null_clip is None else bicubic(result.null_clip, SCALE)
    null_learned = None if result.null_clip is None else dat(result.null_clip)
    truth = _at(result.observed.probe.native, simple.clip)
    small = result.observed.probe.clip

    def score(made: Enhanced | None) -> EnhancedScore | None:
        if made is None:
            return None
        shrunk = functional.interpolate(made.clip.cpu(), small.shape[-2:], mode="area")
        return EnhancedScore(
            psnr=float(psnr(truth, made.clip.cpu())),
            ssim=sorted(ssim_frames(truth, made.clip.cpu()).tolist())[len(truth) // 2],
            rank=rank(small, shrunk, gallery),
        )

    pairs = ((simple, null_simple), (learned, null_learned))
    base = score(simple)
    assert base is not None
    found = []
    for made, null in pairs:
        own = score(made)
        assert own is not None
        found.append(
            Enhancement(
                method=made.method,
                scale=made.scale,
                clip=made.clip.cpu(),
                score=own,
                gain_over_bicubic=own.psnr - base.psnr,
                null=score(null),
            )
        )
    return tuple(found)


def _at(native: Clip, like: Clip) -> Clip:
    """The native frames at the enhanced size."""
    return functional.interpolate(native, like.shape[-2:], mode="bicubic", align_corners=False, antialias=True).clamp(
        0.0, 1.0
    )
