"""Super-resolution of the best reconstructions, each beside the same on its null, and what it added to them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch.nn import functional

from auditor.enhance import Bicubic, DatLight, Enhanced, Enhancer, Fusion, enhancer_from
from auditor.errors import AuditError
from auditor.pipeline.enhancement_words import added, sharpness
from auditor.pipeline.findings import Finding, Result, best_of
from auditor.pipeline.progress import Display
from auditor.probe import Galleries
from auditor.probe.fit import resize
from auditor.records import Clip, Clips, Clock, Skipped, record
from auditor.results.findings import Added, EnhancedScore
from auditor.score import embedding_rank, psnr, rank, ssim_frames
from auditor.score.embedding import embedding
from auditor.score.perceptual import distance_of_looks, looks

# Timing the networks takes about two seconds on two cores at 32x32 pixels.
_TO_MEASURE = 3.0
_MORE_TIME = "give more --max-time"
# Share of the time that embedding a gallery may take; it is embedded once, for all methods and findings.
_EMBED = 0.25


@record
class Enhancement:
    """One method on one reconstruction and on its null.

    `gain_over_bicubic` and `null_gain` are dB over bicubic at the same scale, against the same truth.
    """

    method: str
    scale: int
    clip: Clip
    score: EnhancedScore
    gain_over_bicubic: float
    null_clip: Clip | None
    null: EnhancedScore | None
    null_gain: float | None
    added: Added | None
    seconds: float


def user_enhancers(paths: Sequence[Path]) -> tuple[Enhancer, ...]:
    """Return the networks of the user's files.

    Raises
    ------
    UsageError
        A file is not what it must be.
    """
    return tuple(enhancer_from(path) for path in paths)


def enhance_results(
    findings: Sequence[Finding],
    galleries: Galleries,
    seconds: float,
    display: Display,
    users: Sequence[Enhancer] = (),
) -> tuple[dict[int, tuple[Enhancement, ...]], tuple[Skipped, ...]]:
    """Enhance the best clip of every finding while time lasts, by every method; keyed by `id(result)`.

    The grade of a finding never depends on what enhancement adds: a prior can paint a plausible person from noise.
    """
    clock = Clock(seconds)
    done: dict[int, tuple[Enhancement, ...]] = {}
    if not findings:
        return done, ()
    enhancers: tuple[Enhancer, ...] = (DatLight(2), *users, Fusion(2), DatLight(4), Fusion(4))
    if clock.left < _TO_MEASURE:
        reason = f"{max(0.0, clock.left):.0f} s were left, too few to time it"
        return done, tuple(_late(enhancer, reason) for enhancer in enhancers)
    first = best_result(findings[0])
    scoring, embeds = _scoring(first, galleries, clock)
    needed, skipped = _timed(enhancers, first.clip, clock)
    needed = {enhancer: each + scoring for enhancer, each in needed.items()}
    missed: dict[Enhancer, list[str]] = {}
    for finding in findings:
        result = best_result(finding)
        runs = 1 if result.null_clip is None else 2
        gallery = galleries[result.observed.probe.name]
        made: list[Enhancement] = []
        for enhancer, each in needed.items():
            if enhancer in missed and "it takes" not in missed[enhancer][0]:
                continue  # it failed on a clip of this shape before
            if each * runs > clock.left:
                why = f"it takes about {each * runs:.0f} s and {max(0.0, clock.left):.0f} s were left"
                missed.setdefault(enhancer, [why]).append(finding.attack.title)
                continue
            title = f"{enhancer.name} x{enhancer.scale} · {finding.attack.title}"
            try:
                with display.unit(title, each * runs):
                    made.extend(_enhance(result, enhancer, gallery, embeds, {e.scale for e in made}))
            except AuditError as error:
                missed[enhancer] = [str(error), finding.attack.title]
        if made:
            done[id(result)] = tuple(made)
    return done, (*skipped, *(_missed(e, why, titles) for e, (why, *titles) in missed.items()))


def best_result(finding: Finding) -> Result:
    """The result that stands for the finding."""
    return best_of(finding.results, finding.reference)


def _scoring(result: Result, galleries: Galleries, clock: Clock) -> tuple[float, bool]:
    """Measure what scoring two clips takes, and whether there is time to search the gallery by embeddings."""
    begun = clock.used
    clip = Bicubic(2)(result.clip).clip.cpu()
    looks(clip)
    seconds = 2.0 * (clock.used - begun)
    begun = clock.used
    embedding(result.clip.cpu()[None])
    candidates = len(galleries[result.observed.probe.name])
    return seconds, candidates * (clock.used - begun) < _EMBED * clock.left


def _timed(
    enhancers: Sequence[Enhancer], clip: Clip, clock: Clock
) -> tuple[dict[Enhancer, float], tuple[Skipped, ...]]:
    """Measure what each costs while that leaves time to use it."""
    needed: dict[Enhancer, float] = {}
    skipped = []
    for enhancer in enhancers:
        if clock.left < 0.5 * clock.seconds:
            skipped.append(_late(enhancer, "timing the others left too little time"))
            continue
        try:
            needed[enhancer] = enhancer.seconds_estimate(tuple(clip.shape))
        except AuditError as error:
            skipped.append(
                Skipped(
                    stage="enhance",
                    what=_title(enhancer),
                    because="failed",
                    reason=error.cause,
                    remedy=error.remedy,
                )
            )
    return needed, tuple(skipped)


def _title(enhancer: Enhancer) -> str:
    return f"{enhancer.name} x{enhancer.scale}"


def _late(enhancer: Enhancer, reason: str) -> Skipped:
    return Skipped(stage="enhance", what=_title(enhancer), because="out-of-budget", reason=reason, remedy=_MORE_TIME)


def _missed(enhancer: Enhancer, why: str, titles: Sequence[str]) -> Skipped:
    if "it takes" not in why:
        return Skipped(stage="enhance", what=_title(enhancer), because="failed", reason=why)
    return _late(enhancer, f"{why}; not run on {', '.join(titles)}")


def _enhance(result: Result, enhancer: Enhancer, gallery: Clips, embeds: bool, known: set[int]) -> list[Enhancement]:
    """Run one method, and bicubic at its scale where that has not been run yet."""
    plain = Bicubic(enhancer.scale)
    simple, learned = plain(result.clip), enhancer(result.clip)
    null_simple, null_learned = (
        None if result.null_clip is None else enhance(result.null_clip) for enhance in (plain, enhancer)
    )
    truth, small = resize(result.observed.probe.native, *simple.clip.shape[-2:]), result.observed.probe.clip
    true_looks = looks(truth)

    def score(made: Enhanced | None) -> EnhancedScore | None:
        if made is None:
            return None
        clip = made.clip.cpu()
        shrunk = functional.interpolate(clip, small.shape[-2:], mode="area")
        return EnhancedScore(
            psnr=float(psnr(truth, clip)),
            ssim=sorted(ssim_frames(truth, clip).tolist())[len(truth) // 2],
            rank=rank(small, shrunk, gallery),
            sharpness=sharpness(clip),
            perceptual=distance_of_looks(true_looks, looks(clip)),
            embedding_rank=embedding_rank(small, shrunk, gallery) if embeds else None,
        )

    base, null_base = score(simple), score(null_simple)
    own, null = score(learned), score(null_learned)
    assert base is not None
    assert own is not None
    baseline = Enhancement(
        method=simple.method,
        scale=simple.scale,
        clip=simple.clip.cpu(),
        score=base,
        gain_over_bicubic=0.0,
        null_clip=None if null_simple is None else null_simple.clip.cpu(),
        null=null_base,
        null_gain=None if null_base is None else 0.0,
        added=None,
        seconds=simple.seconds,
    )
    better = replace(
        baseline,
        method=learned.method,
        clip=learned.clip.cpu(),
        score=own,
        gain_over_bicubic=own.psnr - base.psnr,
        null_clip=None if null_learned is None else null_learned.clip.cpu(),
        null=null,
        null_gain=None if null is None or null_base is None else null.psnr - null_base.psnr,
        added=added(base, own, null_base, null),
        seconds=learned.seconds,
    )
    return [better] if enhancer.scale in known else [baseline, better]
