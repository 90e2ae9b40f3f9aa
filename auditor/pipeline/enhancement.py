"""Super-resolution of the best reconstructions, each beside the same on its null, and what it added to them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch.nn import functional

from auditor.enhance import Bicubic, DatLight, Enhanced, Enhancer, Fusion, enhancer_from
from auditor.errors import AuditError, is_out_of_memory
from auditor.journal import Crashed, kept
from auditor.pipeline.deep.memory import ran_out
from auditor.pipeline.enhancement_words import added, sharpness
from auditor.pipeline.findings import SECONDS_TO_SCORE, Finding, best_of
from auditor.pipeline.progress import Display
from auditor.pipeline.scored.scoring import Result
from auditor.pipeline.workers import Task, make_ahead
from auditor.probe import Galleries
from auditor.probe.fit import resize
from auditor.records import Ceiling, Clip, Clips, Clock, Skipped, charged, counting, record
from auditor.results.findings import Added, EnhancedScore
from auditor.score import embedding_rank, psnr, rank, ssim_frames
from auditor.score.perceptual import distance_of_looks, looks

# Below so many reference seconds no network enlarges a clip and its null.
_LEAST = 3.0
_MORE_TIME = "give more --max-time"


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


_CPU = torch.device("cpu")


@counting()
def enhance_results(
    findings: Sequence[Finding],
    galleries: Galleries,
    seconds: float,
    display: Display,
    users: Sequence[Enhancer] = (),
    ceiling: Ceiling | None = None,
    device: torch.device = _CPU,
) -> tuple[dict[int, tuple[Enhancement, ...]], tuple[Skipped, ...]]:
    """Enhance the best clip of every finding while the work lasts, by every method; keyed by `id(result)`.

    The grade of a finding never depends on what enhancement adds: a prior can paint a plausible person from noise.
    What would end after the `ceiling` is left out.
    """
    clock, ceiling = Clock(seconds), ceiling or Ceiling()
    done: dict[int, tuple[Enhancement, ...]] = {}
    if not findings:
        return done, ()
    enhancers: tuple[Enhancer, ...] = (DatLight(2), *users, Fusion(2), DatLight(4), Fusion(4))
    if clock.left < _LEAST:
        reason = f"{max(0.0, clock.left):.0f} s of work were left, too few for it"
        return done, tuple(_late(enhancer, reason) for enhancer in enhancers)
    first = best_result(findings[0])
    needed, skipped = _needed(enhancers, first.clip)
    coming = _coming(findings, needed, clock.left)
    ahead = [
        Task(
            run=partial(_uncounted, enhancer, result, galleries[result.observed.probe.name], device),
            seconds=needed[enhancer],
        )
        for enhancer, result in coming
    ]
    make_ahead(ahead, display, ceiling)
    failed: dict[Enhancer, Skipped] = {}
    late_for: dict[Enhancer, list[str]] = {}
    reasons: dict[Enhancer, str] = {}
    for finding in findings:
        result = best_result(finding)
        runs = 1 if result.null_clip is None else 2
        gallery = galleries[result.observed.probe.name]
        made: list[Enhancement] = []
        for enhancer, each in needed.items():
            if enhancer in failed:
                continue  # it failed on a clip of this shape before
            if each * runs > clock.left:
                why = f"it is about {each * runs:.0f} s of work, and {max(0.0, clock.left):.0f} s were left"
                reasons.setdefault(enhancer, why)
                late_for.setdefault(enhancer, []).append(finding.attack.title)
                continue
            title = f"{enhancer.name} x{enhancer.scale} · {finding.attack.title}"
            late = ceiling.too_late("enhance", title, each * runs)
            if late is not None:
                skipped.append(late)
                continue
            try:
                with display.unit(title, each * runs), charged(each * runs):
                    plain, better = _enhanced(result, enhancer, gallery, device)
                    made += [better] if enhancer.scale in {e.scale for e in made} else [plain, better]
            except (AuditError, Crashed) as error:
                failed[enhancer] = _failed(enhancer, str(error))
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                failed[enhancer] = ran_out(_title(enhancer), error, "enhance")
        if made:
            done[id(result)] = tuple(made)
    skipped += failed.values()
    skipped += [_late(e, f"{reasons[e]}; not run on {', '.join(titles)}") for e, titles in late_for.items()]
    return done, tuple(skipped)


def best_result(finding: Finding) -> Result:
    """The result that stands for the finding."""
    return best_of(finding.results, finding.reference)


def _needed(enhancers: Sequence[Enhancer], clip: Clip) -> tuple[dict[Enhancer, float], list[Skipped]]:
    """Return the reference seconds that enlarging and scoring a clip is, by each that can."""
    scoring = SECONDS_TO_SCORE * len(clip)
    needed: dict[Enhancer, float] = {}
    skipped = []
    for enhancer in enhancers:
        try:
            needed[enhancer] = enhancer.seconds_estimate(tuple(clip.shape)) + scoring
        except AuditError as error:
            skipped.append(_failed(enhancer, error.cause, error.remedy))
    return needed, skipped


def _coming(
    findings: Sequence[Finding], needed: Mapping[Enhancer, float], left: float
) -> Iterator[tuple[Enhancer, Result]]:
    """Return what will be enlarged with the seconds that are left, in their order."""
    for finding in findings:
        result = best_result(finding)
        runs = 1 if result.null_clip is None else 2
        for enhancer, each in needed.items():
            if each * runs <= left:
                left -= each * runs
                yield enhancer, result


def _enhanced(result: Result, enhancer: Enhancer, gallery: Clips, device: torch.device) -> tuple[Enhancement, ...]:
    """Return bicubic at a method's scale, and the method."""

    def depends_on() -> tuple[object, ...]:
        if not isinstance(enhancer, DatLight | Fusion):
            raise TypeError("what a user's network makes of a clip does not follow from its name")
        return enhancer.name, enhancer.scale, device.type, *_of(result), gallery

    return kept("enhance", depends_on, lambda: _enhance(result, enhancer, gallery, device))


def _bicubic(result: Result, scale: int, gallery: Clips) -> Enhancement:
    """Return bicubic at a scale, which is made once for all methods of that scale."""
    return kept("bicubic", lambda: (scale, *_of(result), gallery), lambda: _enlarge(result, scale, gallery))


def _of(result: Result) -> tuple[object, ...]:
    truth = result.observed.probe
    return result.clip, result.null_clip, truth.clip, truth.native


def _uncounted(enhancer: Enhancer, result: Result, gallery: Clips, device: torch.device) -> None:
    with charged(0.0):  # what enlarging a clip is, was counted before
        _enhanced(result, enhancer, gallery, device)


def _failed(enhancer: Enhancer, reason: str, remedy: str = "") -> Skipped:
    return Skipped(stage="enhance", what=_title(enhancer), because="failed", reason=reason, remedy=remedy)


def _title(enhancer: Enhancer) -> str:
    return f"{enhancer.name} x{enhancer.scale}"


def _late(enhancer: Enhancer, reason: str) -> Skipped:
    return Skipped(stage="enhance", what=_title(enhancer), because="out-of-budget", reason=reason, remedy=_MORE_TIME)


def _enhance(result: Result, enhancer: Enhancer, gallery: Clips, device: torch.device) -> tuple[Enhancement, ...]:
    """Run a method on a clip and its null, and return bicubic at its scale, and the method."""
    base = _bicubic(result, enhancer.scale, gallery)
    learned = enhancer(result.clip.to(device))
    null_learned = None if result.null_clip is None else enhancer(result.null_clip.to(device))
    own, null = _scores(result, gallery, learned, null_learned)
    better = replace(
        base,
        method=learned.method,
        clip=learned.clip.cpu(),
        score=own,
        gain_over_bicubic=own.psnr - base.score.psnr,
        null_clip=None if null_learned is None else null_learned.clip.cpu(),
        null=null,
        null_gain=None if null is None or base.null is None else null.psnr - base.null.psnr,
        added=added(base.score, own, base.null, null),
        seconds=learned.seconds,
    )
    return base, better


def _enlarge(result: Result, scale: int, gallery: Clips) -> Enhancement:
    plain = Bicubic(scale)
    simple, null = plain(result.clip), None if result.null_clip is None else plain(result.null_clip)
    score, null_score = _scores(result, gallery, simple, null)
    return Enhancement(
        method=simple.method,
        scale=simple.scale,
        clip=simple.clip,
        score=score,
        gain_over_bicubic=0.0,
        null_clip=None if null is None else null.clip,
        null=null_score,
        null_gain=None if null_score is None else 0.0,
        added=None,
        seconds=simple.seconds,
    )


def _scores(
    result: Result, gallery: Clips, made: Enhanced, null: Enhanced | None
) -> tuple[EnhancedScore, EnhancedScore | None]:
    """Score an enlarged clip and its null on the CPU, against the true clip of that size."""
    truth, small = resize(result.observed.probe.native, *made.clip.shape[-2:]), result.observed.probe.clip
    true_looks = looks(truth)

    def score(clip: Clip) -> EnhancedScore:
        shrunk = functional.interpolate(clip, small.shape[-2:], mode="area")
        return EnhancedScore(
            psnr=float(psnr(truth, clip)),
            ssim=sorted(ssim_frames(truth, clip).tolist())[len(truth) // 2],
            rank=rank(small, shrunk, gallery),
            sharpness=sharpness(clip),
            perceptual=distance_of_looks(true_looks, looks(clip)),
            embedding_rank=embedding_rank(small, shrunk, gallery),
        )

    return score(made.clip.cpu()), None if null is None else score(null.clip.cpu())
