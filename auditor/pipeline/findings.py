"""From reconstructions to findings: score each against its truth, pair it with its null, grade the attack."""

from collections.abc import Mapping, Sequence
from dataclasses import field

from auditor.attack import Attack
from auditor.pipeline.context import Context, Observed
from auditor.pipeline.evidence import Tally, tally
from auditor.pipeline.label_hits import label_interval
from auditor.pipeline.progress import Display, Silent
from auditor.pipeline.references import References
from auditor.pipeline.scored.scoring import Result, Scoring, score_all
from auditor.pipeline.units import Ran, uses_reference
from auditor.probe import Galleries
from auditor.records import LabelGuess, Probe, record
from auditor.results.audit import Control
from auditor.score import (
    ClipScore,
    Grade,
    Interval,
    Lpips,
    Retrieval,
    Severity,
    clearly_above_chance,
    grade_clip,
    grade_finding,
    is_found,
    reach,
    severity,
    summarise,
)


@record
class Finding:
    """What one attack demonstrated over its probes.

    `retrieval` says how well the true clips are found by `pixels` and by `embedding`, and the same of the nulls.
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
    retrieval: Mapping[str, Retrieval | None] = field(default_factory=dict)

    @property
    def counts(self) -> bool:
        """Whether the finding may raise the verdict."""
        return self.null_at_chance is True


@record
class LabelFinding:
    """How well labels were read off the updates.

    `proven` says that the updates themselves prove every label that was read, and all are right: that is no luck to be
    tested for.
    """

    rule: str
    interval: Interval
    proven: bool
    grade: Grade
    severity: Severity


# Reference seconds of every score of one frame, and how much LPIPS adds. Measured; the networks that look at frames
# see them at a size of their own, so that the clip's hardly matters, and parts of it are remembered.
SECONDS_TO_SCORE, _WITH_LPIPS = 0.04, 3.0
# In the source of a model that is built on the network that scores embed by.
EFFICIENTNET_LITE0 = "pretrained:efficientnet-lite0"
# Are clips found, are the canary's bits read?
_QUESTIONS = 2
# Guesses that need no update, but frames of the scene.
_COPIES = ("reference copy", "newest reference", "reference median")


def make_findings(
    context: Context,
    observed: Sequence[Observed],
    ran: Sequence[Ran],
    galleries: Galleries,
    references: References | None = None,
    lpips: Lpips | None = None,
    display: Display | None = None,
) -> tuple[Finding, ...]:
    """Group the units by attack, worst finding first; attacks are scored side by side where somebody can."""
    references, display = references or References(), display or Silent()
    scoring = Scoring(galleries, lpips, independent=EFFICIENTNET_LITE0 not in context.target.source)
    attacks = {r.unit.attack.name: r.unit.attack for r in ran}
    found = [
        _finding(observed, attacks[name], made, len(attacks), independent=scoring.independent)
        for name, made in score_all(observed, ran, references, scoring, display).items()
        if made
    ]
    return tuple(sorted(found, key=lambda f: (-f.counts, -f.grade, -f.severity.score, -_best(f))))


def seconds_to_score(probe: Probe, lpips: Lpips | None = None) -> float:
    """Return the reference seconds that one unit costs when it is scored: its clip and its null's."""
    return 2.0 * len(probe.clip) * SECONDS_TO_SCORE * (1.0 if lpips is None else _WITH_LPIPS)


def best_of(results: Sequence[Result], reference: bool) -> Result:
    """The result that stands for a finding: best grade, scenes before canaries, then the largest gain."""
    return max(
        results,
        key=lambda r: (grade_clip(r.score, with_reference=reference), r.score.bits is None, r.score.gain),
    )


def _best(finding: Finding) -> float:
    return max(r.score.gain for r in finding.results)


def _finding(
    observed: Sequence[Observed], attack: Attack, results: Sequence[Result], attacks: int, *, independent: bool
) -> Finding:
    reference = uses_reference(attack)
    # Chance has as many tries as there are clips in a batch, of which the nearest is scored, attacks in the audit, and
    # questions asked of each (Bonferroni); the nulls are asked no more and no less.
    looks = len(observed[0].labels) * attacks * _QUESTIONS
    once = [r for r in results if r.repetition == 0]
    shown = tally([(r.observed.probe, r.score) for r in once], reference=reference)
    nulls = tally([(r.observed.probe, r.null) for r in once if r.null is not None], reference=reference)
    null_scores = [r.null for r in results if r.null is not None]
    grade = grade_finding(
        [r.score for r in results],
        recall_significant=shown.retrieved(looks),
        bits_significant=shown.read(looks),
        with_reference=reference,
    )
    share = reach([r.score for r in results if r.score.bits is None], with_reference=reference)
    best = best_of(results, reference)
    knows = "reference" if reference else "none" if _restored(results) else "labels"
    return Finding(
        attack=attack,
        reference=reference,
        grade=grade,
        severity=severity(grade, psnr=best.score.psnr, reach=share, knows=knows),
        reach=share,
        recall=shown.recall,
        bits=shown.bits,
        null_at_chance=_at_chance(null_scores, nulls, reference, looks) if null_scores else None,
        null_recall=nulls.recall,
        null_bits=nulls.bits,
        results=tuple(results),
        retrieval=_retrieval(results, reference, independent),
    )


def _retrieval(results: Sequence[Result], reference: bool, independent: bool) -> dict[str, Retrieval | None]:
    """Return the summaries over real clips, each clip once; none with a reference frame, which alone finds the clip."""
    first = [r for r in results if r.repetition == 0 and r.score.bits is None]
    if reference or not first:
        return {}
    nulls = [r.null for r in first if r.null is not None]
    found = {}
    for prefix, scores in (("", [r.score for r in first]), ("null ", nulls)):
        gallery = min((s.gallery for s in scores), default=0)
        embedded = [s.embedding_rank for s in scores if s.embedding_rank is not None]
        found[f"{prefix}pixels"] = summarise([s.rank for s in scores], gallery)
        found[f"{prefix}embedding"] = summarise(embedded, gallery, independent=independent)
    return found


def _restored(results: Sequence[Result]) -> bool:
    return all(isinstance(r.observed.guess, LabelGuess) and r.observed.guess.certain for r in results)


def _at_chance(scores: Sequence[ClipScore], nulls: Tally, reference: bool, looks: int) -> bool:
    """An unrelated update must show nothing: no recognisable clip, no retrieval, no bits."""
    pictures = any(grade_clip(s, with_reference=reference) >= Grade.RECOGNISABLE for s in scores)
    return not (pictures or nulls.retrieved(looks) or nulls.read(looks))


def null_controls(findings: Sequence[Finding]) -> tuple[Control, ...]:
    """One control per attack: the same attack on another clip's update must score at chance."""
    controls = []
    for f in findings:
        nulls = [r.null for r in f.results if r.null is not None]
        best = max((n.gain for n in nulls), default=None)
        hits = sum(is_found(n) for n in nulls)
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
    proven = hits == trials and all(g.certain for _, g in guesses)
    grade = Grade.GIST if proven or clearly_above_chance(interval) else Grade.NOT_SHOWN
    return LabelFinding(
        rule=guesses[0][1].rule,
        interval=interval,
        proven=proven,
        grade=grade,
        severity=severity(grade, psnr=0.0, reach=hits / trials, label_only=True),
    )
