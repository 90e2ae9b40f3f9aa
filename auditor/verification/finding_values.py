"""Grades, severities and sentences of findings, computed again from their scores by the functions that made them."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

from auditor.results.scores import ClipScore, CopyScore, Grade, Interval
from auditor.results.sentences import summary_sentence
from auditor.score import clearly_above_chance, clearly_identified, grade_clip, reach, severity, severity_of_map
from auditor.score.severity import Severity
from auditor.verification.check import near

Block = Mapping[str, Any]
# Numbers in sentences have one decimal, of values with six digits.
_ROUNDED = 0.1001
_NUMBER = re.compile(r"[+-]?\d+\.\d+|[+-]?inf|nan")
_REACH = re.compile(r"/R:(\d\.\d\d)$")
_LABEL_NEEDED = "the label of the clip, which no rule could restore here"


def finding_doubts(results: Block) -> Iterator[str]:
    """Yield every grade, severity and sentence of a finding that does not follow from its scores."""
    findings = results["findings"]
    for finding in findings:
        yield from _finding(finding)
    for found in results.get("feature_maps", ()):
        yield from _map(found)


def _map(found: Block) -> Iterator[str]:
    name = f"the map at {found['layer']}"
    if found["values"] != math.prod(found["shape"]):
        yield f"{name} has {found['values']} values, and its shape {math.prod(found['shape'])}"
    reached = _REACH.search(found["severity"]["vector"])
    if reached is None:
        yield f"the severity of {name} has no vector"
    else:
        yield from _severity(found["severity"], severity_of_map(found["per_pixel"], float(reached[1])), name)


def _finding(finding: Block) -> Iterator[str]:
    name, with_reference = finding["id"], finding["reference"] != "R0"
    if finding["counts"] != (finding["null_at_chance"] is True):
        yield f"{name}.counts is {finding['counts']}, and its null control says otherwise"
    runs = [(run, clip_score(run["score"])) for run in finding["results"] if run["score"] is not None]
    if not runs or any(score.content is None for _, score in runs):
        return
    overall = Grade[finding["grade"]]
    grades = [grade_clip(score, with_reference=with_reference) for _, score in runs]
    for (run, _), grade in zip(runs, grades, strict=True):
        if Grade[run["grade"]] is not min(grade, overall):
            yield f"{name} on {run['probe']} is {run['grade']}, and follows as {min(grade, overall).name}"
    yield from _grade(finding, overall, grades, [s for _, s in runs if s.bits is None], with_reference)
    best = max(range(len(runs)), key=lambda k: (grades[k], runs[k][1].bits is None, runs[k][1].gain))
    share = reach([s for _, s in runs if s.bits is None], with_reference=with_reference)
    knows = "reference" if with_reference else "labels" if _LABEL_NEEDED in finding["assumes"] else "none"
    rated = severity(overall, psnr=runs[best][1].psnr, reach=share, knows=knows)
    yield from _severity(finding["severity"], rated, name)
    run, score = runs[best]
    blind = max(score.baselines, key=lambda guess: score.baselines[guess])
    told = summary_sentence(
        finding["title"], overall, score.psnr, run["probe"], score.gain, blind, finding["null_at_chance"]
    )
    if not same_sentence(finding["summary"], told):
        yield f"{name}.summary is not what its scores say"


def _grade(
    finding: Block, overall: Grade, grades: Sequence[Grade], real: Sequence[ClipScore], with_reference: bool
) -> Iterator[str]:
    """Bounds that hold however often chance was asked: what has to be shown at least, and what may be at most."""
    best = max(grades)
    bits, recall = (None if finding[n] is None else interval(finding[n]) for n in ("bits", "recall"))
    told = clearly_above_chance(bits) or (
        not with_reference and (clearly_above_chance(recall) or (bool(real) and clearly_identified(real)))
    )
    if overall is Grade.EXACT and best is not Grade.EXACT:
        yield f"{finding['id']}.grade is EXACT, and no clip is"
    if best is Grade.EXACT and overall is not Grade.EXACT:
        yield f"{finding['id']}.grade is {overall.name}, and a clip is EXACT"
    if overall is Grade.RECOGNISABLE and best < Grade.RECOGNISABLE:
        yield f"{finding['id']}.grade is RECOGNISABLE, and no clip is"
    if overall is Grade.GIST and not told:
        yield f"{finding['id']}.grade is GIST, and neither bits nor clips were found above chance"


def _severity(block: Block, rated: Severity, name: str) -> Iterator[str]:
    if block["vector"] != rated.vector or not near(block["score"], rated.score, 0.051):
        yield f"the severity of {name} is {block['score']} ({block['vector']}), and follows as {rated.score}"


def same_sentence(a: str, b: str) -> bool:
    """Tell whether two sentences have the same words, and numbers that are the same when they are rounded."""
    if _NUMBER.sub("#", a) != _NUMBER.sub("#", b):
        return False
    pairs = zip(_NUMBER.findall(a), _NUMBER.findall(b), strict=True)
    return all(near(x, y, _ROUNDED) for x, y in pairs)


def clip_score(block: Block) -> ClipScore:
    """Return a written score as the record that grades are made of; what was not measured is not a number."""
    plain = {f.name: _value(block[f.name]) for f in fields(ClipScore) if f.name in block}
    copy = block.get("copy")
    held = None if copy is None else CopyScore(**{f.name: _value(copy[f.name]) for f in fields(CopyScore)})
    bits = None if block["bits"] is None else interval(block["bits"])
    return ClipScore(**{**plain, "bits": bits, "copy": held})


def interval(block: Block) -> Interval:
    """Return a written interval as a record."""
    return Interval(**{f.name: block[f.name] for f in fields(Interval)})


def _value(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_value(item) for item in value)
    if isinstance(value, dict):
        return {name: _value(item) for name, item in value.items()}
    return math.inf if value == "inf" else -math.inf if value == "-inf" else value
