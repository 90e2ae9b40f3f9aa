"""Scores of every reconstruction beside those of its null, made side by side where somebody can."""

from collections.abc import Mapping, Sequence
from functools import partial

from auditor.journal import Crashed, digest_of, kept
from auditor.pipeline.context import Observed
from auditor.pipeline.pairing import own_clip
from auditor.pipeline.progress import Display
from auditor.pipeline.references import References
from auditor.pipeline.units import Ran
from auditor.pipeline.workers import Task, make_ahead
from auditor.probe import Galleries, alike
from auditor.records import Ceiling, Clip, Probe, Reconstruction, record
from auditor.results.attempts import Point
from auditor.score import Appearance, ClipScore, Lpips, blind_guesses, score_clip


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
class _Pair:
    """A clip and its null, and what both are scored against."""

    truth: Probe
    held: Clip | None
    clip: Clip
    null_clip: Clip | None


class Scoring:
    """Scores clips against their truths; what it needs of each truth is prepared once."""

    def __init__(self, galleries: Galleries, lpips: Lpips | None = None, *, independent: bool = True) -> None:
        self._galleries, self._lpips, self.independent = galleries, lpips, independent
        self._appearances: dict[tuple[str, int], Appearance] = {}
        self._truths: dict[str, str] = {}

    def __call__(self, truth: Probe, estimate: Clip, reference: Clip | None) -> ClipScore:
        """Return every number of one reconstruction."""
        gallery = self._galleries[truth.name]
        score = score_clip(truth, estimate, gallery, reference, self._galleries.same_scene(truth.name))
        return self._appearance(truth, reference).added(score, estimate)

    def depends_on(self, truth: Probe) -> str:
        """Return a digest of what scores against a truth depend on.

        Raises
        ------
        TypeError
            The weights of LPIPS are the user's.
        """
        if self._lpips is not None:
            raise TypeError("what a user's network says of a clip does not follow from its name")
        if truth.name not in self._truths:
            gallery, same = self._galleries[truth.name], self._galleries.same_scene(truth.name)
            self._truths[truth.name] = digest_of(truth.kind, truth.clip, truth.payload, gallery, same)
        return self._truths[truth.name]

    def guesses(self, truth: Probe, reference: Clip | None) -> Mapping[str, Clip]:
        """Return the blind guesses at a truth."""
        size = (truth.clip.shape[-2], truth.clip.shape[-1])
        return blind_guesses(self._galleries[truth.name], size, reference, truth.clip)

    def _appearance(self, truth: Probe, reference: Clip | None) -> Appearance:
        key = (truth.name, 0 if reference is None else len(reference))
        if key not in self._appearances:
            gallery = None if truth.kind in ("canary", "texture") else self._galleries[truth.name]
            guesses = self.guesses(truth, reference)
            self._appearances[key] = Appearance(truth.clip, guesses, gallery, self._lpips)
        return self._appearances[key]


def score_all(
    observed: Sequence[Observed], ran: Sequence[Ran], references: References, scoring: Scoring, display: Display
) -> dict[str, tuple[Result, ...]]:
    """Score what every attack, by name, made of the clips themselves, each beside its null; attacks side by side."""
    own: dict[str, list[tuple[Ran, _Pair]]] = {}
    for name in dict.fromkeys(r.unit.attack.name for r in ran):
        same = [r for r in ran if r.unit.attack.name == name]
        own[name] = [(r, _pair(observed, r, same, references)) for r in same if not r.unit.is_null]
    pairs = {name: [pair for _, pair in group] for name, group in own.items()}
    make_ahead(
        [Task(run=partial(_scores, group, scoring)) for group in pairs.values()], display, Ceiling(), split=False
    )
    return {
        name: tuple(
            Result(
                observed=observed[r.unit.truth],
                reconstruction=_reconstruction(r),
                clip=pair.clip,
                score=score,
                repetition=r.unit.repetition,
                null_clip=pair.null_clip,
                null=null,
                guesses=scoring.guesses(pair.truth, pair.held),
                curve=r.curve,
                held=pair.held,
            )
            for (r, pair), (score, null) in zip(group, _scores(pairs[name], scoring), strict=True)
        )
        for name, group in own.items()
    }


def _pair(observed: Sequence[Observed], ran: Ran, siblings: Sequence[Ran], references: References) -> _Pair:
    truth = observed[ran.unit.truth]
    held = references.held(ran.unit.attack, truth.probe)
    return _Pair(
        truth=truth.probe,
        held=held,
        clip=own_clip(truth, _reconstruction(ran)),
        null_clip=_null_clip(observed, ran, siblings, held is not None),
    )


def _reconstruction(ran: Ran) -> Reconstruction:
    assert isinstance(ran.result, Reconstruction)
    return ran.result


def _scores(pairs: Sequence[_Pair], scoring: Scoring) -> tuple[tuple[ClipScore, ClipScore | None], ...]:
    def depends_on() -> list[object]:
        return [(scoring.depends_on(pair.truth), pair.clip, pair.null_clip, pair.held) for pair in pairs]

    def made() -> tuple[tuple[ClipScore, ClipScore | None], ...]:
        return tuple(
            (
                scoring(pair.truth, pair.clip, pair.held),
                None if pair.null_clip is None else scoring(pair.truth, pair.null_clip, pair.held),
            )
            for pair in pairs
        )

    try:
        return kept("score", depends_on, made) if pairs else ()
    except Crashed:  # the process that scored was ended, as where memory is short: this one has no other beside it now
        return made()


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
