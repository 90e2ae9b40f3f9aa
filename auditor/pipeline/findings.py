"""From reconstructions to findings: score each against its truth, pair it with its null, grade the attack."""

from collections.abc import Mapping, Sequence

import torch

from auditor.attack import Attack
from auditor.pipeline.bench import Bench, Observed
from auditor.pipeline.controls import Control
from auditor.pipeline.credibility import Point
from auditor.pipeline.label_hits import label_interval
from auditor.pipeline.pairing import alike, own_clip
from auditor.pipeline.references import References
from auditor.pipeline.units import Ran, uses_reference
from auditor.probe import Galleries
from auditor.records import Clip, ClipScore, Clock, Grade, Interval, LabelGuess, Probe, Reconstruction, record
from auditor.score import (
    Severity,
    bits_interval,
    blind_guesses,
    clearly_above_chance,
    grade_clip,
    grade_finding,
    merged,
    reach,
    recall_interval,
    score_clip,
    severity,
)


@record
class Result:
    """One reconstruction with its score, and the same attack's null for the same truth (None if there was none).

    `curve` is the score along the way, where it was kept; `held` the reference frames of the attacker.
    """

    observed: Observed
    reconstruction: Reconstruction
    clip: Clip
    score: ClipScore
    repetition: int
    null_clip: Clip | None
    null: ClipScore | None
    guesses: Mapping[str, Clip]
    curve: tuple[Point, ...] = ()
    held: Clip | None = None


@record
class Finding:
    """What one attack demonstrated over its probes.

    `null_at_chance` is None when no null could be run; a finding whose null is not at chance cannot raise the verdict.
    """

    attack: Attack
    reference: bool
    grade: Grade
    severity: Severity
    reach: float
    recall: Interval | None
    bits: Interval | None
    null_at_chance: bool | None
    null_recall: Interval | None
    null_bits: Interval | None
    results: tuple[Result, ...]

    @property
    def counts(self) -> bool:
        """Whether the finding may raise the verdict."""
        return self.null_at_chance is True


@record
class LabelFinding:
    """How well labels were read off the updates."""

    rule: str
    interval: Interval
    grade: Grade
    severity: Severity


# Of a null: is the clip found, are the canary's bits read?
_QUESTIONS = 2
# Guesses that need no update, but frames of the scene.
_COPIES = ("reference copy", "newest reference", "reference median")


def make_findings(
    bench: Bench,
    observed: Sequence[Observed],
    ran: Sequence[Ran],
    galleries: Galleries,
    references: References | None = None,
) -> tuple[Finding, ...]:
    """Group the units by attack, worst finding first."""
    references = references or References()
    attacks = {r.unit.attack.name: r.unit.attack for r in ran}
    found = [
        _finding(observed, [r for r in ran if r.unit.attack.name == name], attack, galleries, len(attacks), references)
        for name, attack in attacks.items()
    ]
    kept = [f for f in found if f is not None]
    return tuple(sorted(kept, key=lambda f: (-f.counts, -f.grade, -f.severity.score, -_best(f))))


def seconds_to_score(probe: Probe, gallery: Clip) -> float:
    """Measure what one unit costs when it is scored: its clip and its null's."""
    clock = Clock(0.0)
    score_clip(probe, torch.full_like(probe.clip, 0.5), gallery)
    return 2.0 * clock.used


def best_of(results: Sequence[Result], reference: bool) -> Result:
    """The result that stands for a finding: best grade, scenes before canaries, then the largest gain."""
    return max(
        results,
        key=lambda r: (grade_clip(r.score, with_reference=reference), r.score.bits is None, r.score.gain),
    )


def _best(finding: Finding) -> float:
    return max(r.score.gain for r in finding.results)


def _finding(
    observed: Sequence[Observed],
    ran: list[Ran],
    attack: Attack,
    galleries: Galleries,
    attacks: int,
    references: References,
) -> Finding | None:
    reference = uses_reference(attack)
    looks = len(observed[0].labels)
    results = [_result(observed, r, ran, references, galleries) for r in ran if not r.unit.is_null]
    if not results:
        return None
    recall, bits = _evidence([r.score for r in results], _first(results, [r.score for r in results]), reference)
    with_null = [r for r in results if r.null is not None]
    null_scores = [r.null for r in with_null if r.null is not None]
    null_recall, null_bits = _evidence(null_scores, _first(with_null, null_scores), reference)
    # An audit asks of every attack's null whether clips are found and whether bits are read: as many tries for chance
    # (Bonferroni).
    null_looks = looks * attacks * _QUESTIONS
    null_at_chance = _at_chance(null_scores, null_recall, null_bits, reference, null_looks) if null_scores else None
    grade = grade_finding(
        [r.score for r in results],
        recall_significant=clearly_above_chance(recall, looks),
        bits_significant=clearly_above_chance(bits, looks),
        with_reference=reference,
    )
    share = reach([r.score for r in results if r.score.bits is None], with_reference=reference)
    shown = best_of(results, reference)
    knows = "reference" if reference else "none" if _restored(results) else "labels"
    return Finding(
        attack=attack,
        reference=reference,
        grade=grade,
        severity=severity(grade, psnr=shown.score.psnr, reach=share, knows=knows),
        reach=share,
        recall=recall,
        bits=bits,
        null_at_chance=null_at_chance,
        null_recall=null_recall,
        null_bits=null_bits,
        results=tuple(results),
    )


def _restored(results: Sequence[Result]) -> bool:
    return all(isinstance(r.observed.guess, LabelGuess) and r.observed.guess.certain for r in results)


def _result(
    observed: Sequence[Observed], ran: Ran, siblings: Sequence[Ran], references: References, galleries: Galleries
) -> Result:
    truth = observed[ran.unit.truth]
    made = ran.result
    assert isinstance(made, Reconstruction)
    clip = own_clip(truth, made)
    frames = references.held(ran.unit.attack, truth.probe)
    null_clip = _null_clip(observed, ran, siblings, frames is not None)
    gallery = galleries[truth.probe.name]
    return Result(
        observed=truth,
        reconstruction=made,
        clip=clip,
        score=score_clip(truth.probe, clip, gallery, frames),
        repetition=ran.unit.repetition,
        null_clip=null_clip,
        null=None if null_clip is None else score_clip(truth.probe, null_clip, gallery, frames),
        guesses=blind_guesses(gallery, (clip.shape[-2], clip.shape[-1]), frames),
        curve=ran.curve,
        held=frames,
    )


def _null_clip(observed: Sequence[Observed], ran: Ran, siblings: Sequence[Ran], reference: bool) -> Clip | None:
    """The same attack on another clip's update; of a batch, the best match, as the attack itself was given."""
    same = [s for s in siblings if s.unit.repetition == ran.unit.repetition]
    if reference:
        nulls = [s for s in same if s.unit.truth == ran.unit.truth and s.unit.is_null]
    else:
        after = sorted(same, key=lambda s: (s.unit.truth <= ran.unit.truth, s.unit.truth))
        nulls = [s for s in after if not alike(observed[s.unit.truth].probe, observed[ran.unit.truth].probe)]
    for other in nulls:
        if isinstance(other.result, Reconstruction):
            return own_clip(observed[ran.unit.truth], other.result)
    return None


def _first(results: Sequence[Result], scores: Sequence[ClipScore]) -> list[ClipScore]:
    """Scores of the first repetition only: seeds on one clip are not independent trials."""
    return [s for r, s in zip(results, scores, strict=True) if r.repetition == 0]


def _evidence(
    scores: Sequence[ClipScore], first: Sequence[ClipScore], reference: bool
) -> tuple[Interval | None, Interval | None]:
    """Return recall over real clips (no evidence with a reference frame) and bits over canaries."""
    real = [s for s in first if s.bits is None]
    recall = None
    if real and not reference:
        recall = recall_interval(sum(s.rank == 1 for s in real), len(real), min(s.gallery for s in real))
    correct, trials, chance = merged([s.bits for s in first])
    return recall, bits_interval(correct, trials, chance) if trials else None


def _at_chance(
    scores: Sequence[ClipScore], recall: Interval | None, bits: Interval | None, reference: bool, looks: int
) -> bool:
    """An unrelated update must show nothing: no recognisable clip, no retrieval, no bits."""
    pictures = any(grade_clip(s, with_reference=reference) >= Grade.RECOGNISABLE for s in scores)
    return not (pictures or clearly_above_chance(recall, looks) or clearly_above_chance(bits, looks))


def null_controls(findings: Sequence[Finding]) -> tuple[Control, ...]:
    """One control per attack: the same attack on another clip's update must score at chance."""
    controls = []
    for f in findings:
        nulls = [r.null for r in f.results if r.null is not None]
        best = max((n.gain for n in nulls), default=None)
        hits = sum(n.rank == 1 for n in nulls)
        measured = "not run: no second clip was attacked"
        if best is not None:
            measured = f"best gain {best:+.1f} dB over a blind guess"
            measured += "" if f.reference else f", true clip found {hits} of {len(nulls)} times"
            if f.null_bits is not None:
                measured += f", {f.null_bits.hits} of {f.null_bits.trials} bits"
        controls.append(
            Control(
                name=f"null update: {f.attack.title}",
                kind="null",
                passed=f.null_at_chance,
                measured=measured,
                expected="no recognisable clip, retrieval and bits at chance",
                why="a score that an unrelated update also gets says nothing about this update",
                attack=f.attack.name,
            )
        )
    return tuple(controls)


def blind_controls(findings: Sequence[Finding]) -> tuple[Control, ...]:
    """What a guess without any update scores: stated, since every gain is measured against it."""
    best: dict[str, tuple[str, float]] = {}
    for f in findings:
        for r in f.results:
            blind = {k: v for k, v in r.score.baselines.items() if k not in _COPIES}
            guess = max(blind.items(), key=lambda item: item[1])
            if guess[1] > best.get(r.observed.probe.name, ("", -1.0))[1]:
                best[r.observed.probe.name] = guess
    if not best:
        return ()
    measured = ", ".join(f"{probe}: {name} {value:.1f} dB" for probe, (name, value) in best.items())
    return (
        Control(
            name="blind baseline: best guess without the update",
            kind="blind",
            passed=None,
            measured=measured,
            expected="a reference, not a test",
            why="gains are counted from here, so that a dull clip is not mistaken for a leak",
        ),
    )


def label_finding(observed: Sequence[Observed], classes: int, kind: str = "class") -> LabelFinding | None:
    """Count the labels restored from every batch; None where no rule applied."""
    guesses = [(o, o.guess) for o in observed if isinstance(o.guess, LabelGuess)]
    if not guesses:
        return None
    interval = label_interval([o.labels for o, _ in guesses], [g.labels for _, g in guesses], classes, kind)
    hits, trials = interval.hits, interval.trials
    grade = Grade.GIST if clearly_above_chance(interval) else Grade.NOT_SHOWN
    return LabelFinding(
        rule=guesses[0][1].rule,
        interval=interval,
        grade=grade,
        severity=severity(grade, psnr=0.0, reach=hits / trials, label_only=True),
    )
