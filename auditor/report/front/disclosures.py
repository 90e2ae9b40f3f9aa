"""What an audit showed of persons, scene, label and single frames, each told apart; never more than was measured."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from auditor.report.figures import real
from auditor.report.headline import GRADE_ORDER, canaries, counts
from auditor.results.scores import CLEAR_CONTENT, NO_CONTENT
from auditor.results.severity import EXACT_MAP, WHOLE_MAP

Shown = Literal["shown", "look", "not-shown", "not-tested"]
Needs = Literal["none", "labels", "reference"]
Kind = Literal["copy", "person", "person-with-frames", "face", "scene", "inner", "bits", "label", "frame"]

_ORDER: tuple[Shown, ...] = get_args(Shown)
_NEEDS: tuple[Needs, ...] = get_args(Needs)
_KNOWS = re.compile(r"/K:(none|labels|reference)/")
# As in score/grade.py: what does not beat a guess by that much shows nothing, whatever it looks like.
_LEAST_GAIN = 1.0

Results = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Disclosure:
    """One thing that an update may tell.

    Attributes
    ----------
    shown
        `look` where number and eye need not agree: the reader is to look at the picture.
    needs
        What the attacker held besides the update.
    hits, trials
        In how many clips, updates or frames of how many; None where that was not counted.
    whole
        Of inner values: whether they hold as much as the clip.
    """

    kind: Kind
    shown: Shown
    needs: Needs = "none"
    hits: int | None = None
    trials: int | None = None
    whole: bool = False


def disclosures(results: Results) -> dict[Kind, Disclosure]:
    """Return what was shown of each kind, in the order of page one; what was not asked at all is left out."""
    found = (
        _strongest(_copies(results), "copy"),
        *_person(list(_persons(results))),
        _face(results),
        _strongest(_scenes(results), "scene"),
        _inner(results),
        _bits(results),
        _label(results),
        _frame(results),
    )
    return {d.kind: d for d in found if d is not None}


def needs_of(finding: Mapping[str, Any]) -> Needs:
    """Return what an attack needs besides the update: nothing, the label, or frames of the scene."""
    if finding["reference"] != "R0":
        return "reference"
    told = _KNOWS.search(finding["severity"]["vector"])
    return "labels" if told is not None and told[1] == "labels" else "none"


def visibility(finding: Mapping[str, Any], result: Mapping[str, Any]) -> Shown:
    """Return whether what moves in a clip can be made out in a reconstruction.

    `shown` and `not-shown` only where the grade and the number agree with what eyes saw (docs/grades.md); a picture
    that does not beat a guess, or points to another scene, shows nothing.
    """
    score, grade = result["score"], result["grade"]
    if grade == "EXACT":
        return "shown"
    content = real(score.get("content"))
    graded = grade == "RECOGNISABLE"
    if content is None:
        return "look" if graded else "not-shown"
    if not graded and (finding["reference"] != "R0" or not _points_to_its_scene(score)):
        return "not-shown"
    if graded and content >= CLEAR_CONTENT:
        return "shown"
    return "look" if content >= NO_CONTENT else "not-shown"


def _points_to_its_scene(score: Mapping[str, Any]) -> bool:
    rank = score["rank"] if score.get("rank_scenes") is None else score["rank_scenes"]
    return rank == 1 and (real(score["gain"]) or 0.0) >= _LEAST_GAIN


def _tiers(results: Results) -> Iterator[tuple[Needs, list[tuple[Any, Any]]]]:
    """Scored runs on clips with a scene, by what the attacker needs."""
    payloads = canaries(results)
    for needs in _NEEDS:
        runs = [
            (f, r)
            for f in results["findings"]
            if counts(f) and needs_of(f) == needs
            for r in f["results"]
            if r["score"] is not None and r["probe"] not in payloads
        ]
        if runs:
            yield needs, runs


def _strongest(found: Iterable[Disclosure], kind: Kind) -> Disclosure:
    """The clearest answer, and of equal ones that of the attacker who needs least."""
    return min(found, key=lambda d: _ORDER.index(d.shown), default=Disclosure(kind=kind, shown="not-tested"))


def _copies(results: Results) -> Iterator[Disclosure]:
    for needs, runs in _tiers(results):
        exact = {r["probe"] for _, r in runs if r["grade"] == "EXACT"}
        yield _counted("copy", "shown" if exact else "not-shown", needs, exact, runs)


def _persons(results: Results) -> Iterator[Disclosure]:
    for needs, runs in _tiers(results):
        seen = {w: {r["probe"] for f, r in runs if visibility(f, r) == w} for w in _ORDER}
        word: Shown = next((w for w in _ORDER[:2] if seen[w]), "not-shown")
        yield _counted("person", word, needs, seen[word], runs)


def _person(found: Sequence[Disclosure]) -> Iterator[Disclosure]:
    """For attackers with the update alone; for those with frames of the scene too where they see more."""
    alone = _strongest((d for d in found if d.needs != "reference"), "person")
    yield alone
    helped = _strongest((d for d in found if d.needs == "reference"), "person")
    if _ORDER.index(helped.shown) < min(_ORDER.index(alone.shown), _ORDER.index("not-shown")):
        yield replace(helped, kind="person-with-frames")


def _scenes(results: Results) -> Iterator[Disclosure]:
    for needs, runs in _tiers(results):
        if needs == "reference":
            continue  # who holds a frame of the scene knows it already
        found = [_scene_of(f, needs, runs) for f in _findings(runs)]
        yield min(found, key=lambda d: (_ORDER.index(d.shown), -(d.hits or 0)))


def _scene_of(finding: Mapping[str, Any], needs: Needs, runs: Sequence[tuple[Any, Any]]) -> Disclosure:
    own = [(f, r) for f, r in runs if f is finding]
    recall, grade = finding["recall"], GRADE_ORDER.index(finding["grade"])
    told = recall is not None and recall["low"] > recall["chance"]
    if grade == 0 or not (told or grade > 1):
        return _counted("scene", "not-shown", needs, set(), own)
    if told:
        return Disclosure(kind="scene", shown="shown", needs=needs, hits=recall["hits"], trials=recall["trials"])
    seen = {r["probe"] for _, r in own if GRADE_ORDER.index(r["grade"]) > 1}
    return _counted("scene", "shown", needs, seen, own)


def _findings(runs: Sequence[tuple[Any, Any]]) -> list[Any]:
    return list({id(f): f for f, _ in runs}.values())


def _counted(kind: Kind, shown: Shown, needs: Needs, hits: set[str], runs: Sequence[tuple[Any, Any]]) -> Disclosure:
    of = len({r["probe"] for _, r in runs})
    return Disclosure(kind=kind, shown=shown, needs=needs, hits=len(hits) if shown != "not-shown" else 0, trials=of)


def _face(results: Results) -> Disclosure | None:
    """Whether a face is matched to its person, where that was asked and a face was found in the clip."""
    for finding in filter(counts, results["findings"]):
        asked = finding.get("faces") or {}
        rebuilt, null = asked.get("reconstruction"), asked.get("null")
        if rebuilt is None or rebuilt["same"] is None:
            continue
        # A match within a picture that is graded as showing nobody, or in what another update gave, may be luck.
        invented = (null is not None and null["same"]) or GRADE_ORDER.index(finding["grade"]) < 2
        shown: Shown = "not-shown" if not rebuilt["same"] else "look" if invented else "shown"
        return Disclosure(kind="face", shown=shown, needs=needs_of(finding))
    return None


def _inner(results: Results) -> Disclosure | None:
    held = [m for m in results.get("feature_maps", ()) if m["counts"]]
    if not held:
        return None
    whole = any(m["per_pixel"] >= WHOLE_MAP for m in held)
    errors = [(c["probe"], real(c["error"])) for m in held for c in m["clips"]]
    right = {probe for probe, error in errors if error is not None and error <= EXACT_MAP}
    tried = {probe for probe, _ in errors}
    return Disclosure(kind="inner", shown="shown", hits=len(right), trials=len(tried), whole=whole)


def _bits(results: Results) -> Disclosure | None:
    """Hidden bits that were read, above chance, by an attack that is graded for it."""
    for finding in filter(counts, results["findings"]):
        bits = finding["bits"]
        if bits is not None and bits["low"] > bits["chance"] and finding["grade"] != "NOT_SHOWN":
            needs = needs_of(finding)
            return Disclosure(kind="bits", shown="shown", needs=needs, hits=bits["hits"], trials=bits["trials"])
    return None


def _label(results: Results) -> Disclosure:
    labels = results["labels"]
    read = labels["interval"]
    if read is None:
        return Disclosure(kind="label", shown="not-tested")
    shown: Shown = "not-shown" if labels["grade"] in (None, "NOT_SHOWN") else "shown"
    return Disclosure(kind="label", shown=shown, hits=read["hits"], trials=read["trials"])


def _frame(results: Results) -> Disclosure:
    asked = results.get("membership")
    if not asked or not asked["claims"]:
        return Disclosure(kind="frame", shown="not-tested")
    told = asked["true_positives"]
    shown: Shown = "not-shown" if asked["grade"] == "NOT_SHOWN" else "shown"
    hits, trials = (None, None) if told is None else (told["hits"], told["trials"])
    return Disclosure(kind="frame", shown=shown, hits=hits, trials=trials)
