"""Verdict, severity, controls and labels, computed again from findings, exposure and what was left out."""

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from auditor.results.consistency import GRADES, demonstrated
from auditor.results.scores import Exposure, Grade
from auditor.results.severity import band
from auditor.score import FORMULA, clearly_above_chance, severity
from auditor.score.verdict import LEAST_CLIPS, SENTENCES, exposed
from auditor.verification.check import near
from auditor.verification.finding_values import interval

Block = Mapping[str, Any]
_GIST = GRADES.index("GIST")
_ON_CLIPS = ("real", "user")


def verdict_doubts(results: Block) -> Iterator[str]:
    """Yield what the verdict, its severity and its reasons say otherwise than what they follow from."""
    verdict = results["verdict"]
    if verdict["sentence"] != SENTENCES[verdict["word"]]:
        yield f"the verdict's sentence is not that of {verdict['word']}"
    yield from _severity(results)
    yield from _labels(results["labels"])
    yield from _membership(results.get("membership"))
    yield from _counted(results)
    if verdict["word"] in ("PASS", "WARN"):
        yield from _earned(results)


def _severity(results: Block) -> Iterator[str]:
    """Severity is that of the worst case that counts, inputs and all."""
    severity_block = results["severity"]
    if severity_block["formula"] != FORMULA:
        yield "the formula of severity is another one"
    cases = [f["severity"] for f in results["findings"] if f["counts"]]
    cases += [m["severity"] for m in results.get("feature_maps", ()) if m["counts"]]
    cases += [block["severity"] for block in (results["labels"], results.get("membership") or {}) if _rated(block)]
    worst = max((case["score"] or 0.0 for case in cases), default=0.0)
    if not near(severity_block["score"], worst, 0.051):
        yield f"severity is {severity_block['score']}, and its worst case has {worst}"
    vectors = [case["vector"] for case in cases if near(case["score"] or 0.0, worst, 0.051)]
    if worst and severity_block["vector"] not in vectors:
        yield f"the vector of severity is {severity_block['vector']}, which no worst case has"
    yield from _inputs(severity_block)
    for case in (*cases, severity_block):
        if case["band"] != band(case["score"] or 0.0):
            yield f"severity {case['score']} is {band(case['score'] or 0.0)}, and the results say {case['band']}"


def _rated(block: Block) -> bool:
    return bool((block.get("severity") or {}).get("score"))


def _inputs(block: Block) -> Iterator[str]:
    parts = dict(part.split(":", 1) for part in block["vector"].split("/") if ":" in part)
    for name, letter in (("fidelity", "F"), ("preconditions", "P"), ("reach", "R")):
        told = block["inputs"].get(name)
        if told is None or letter not in parts or not near(told["value"], parts[letter], 0.0051):
            yield f"the input {name} of severity is not that of its vector"


def _labels(labels: Block) -> Iterator[str]:
    found, grade = labels["interval"], labels["grade"]
    if found is None or grade is None:
        return
    proven = bool(labels.get("proven"))
    if proven and found["hits"] != found["trials"]:
        yield f"labels are proven, and {found['hits']} of {found['trials']} are right"
    shown = Grade.GIST if proven or clearly_above_chance(interval(found)) else Grade.NOT_SHOWN
    if grade != shown.name:
        yield f"labels are {grade}, and follow as {shown.name}"
    rated = severity(shown, psnr=0.0, reach=found["hits"] / max(1, found["trials"]), label_only=True)
    told = labels.get("severity")
    if told is not None and (told["vector"] != rated.vector or not near(told["score"], rated.score, 0.051)):
        yield f"the severity of labels is {told['score']}, and follows as {rated.score}"


def _membership(block: Any) -> Iterator[str]:
    if not block or not block.get("clips_found"):
        return
    shown = block["claims"] and block["null_at_chance"] is True and clearly_above_chance(interval(block["clips_found"]))
    expected = Grade.GIST if shown else Grade.NOT_SHOWN
    if block["grade"] != expected.name:
        yield f"frame membership is {block['grade']}, and follows as {expected.name}"


def _counted(results: Block) -> Iterator[str]:
    """Numbers that are told in two places."""
    parameters, protocol = results["model"]["parameters"], results["protocol"]
    if protocol["update"]["gradients"] != parameters["sent_tensors"] and protocol["update"]["gradients"]:
        yield f"{protocol['update']['gradients']} gradients are sent, and {parameters['sent_tensors']} tensors"
    if parameters["sent_elements"] > parameters["elements"] or parameters["sent_tensors"] > parameters["tensors"]:
        yield "more is sent than the model has"
    ids = [finding["id"] for finding in results["findings"]]
    if ids != [f"F{n}" for n in range(1, len(ids) + 1)]:
        yield f"findings are numbered {', '.join(ids[:6])}"
    order = [(-f["counts"], -GRADES.index(f["grade"]), -(f["severity"]["score"] or 0.0)) for f in results["findings"]]
    if order != sorted(order):
        yield "findings are not in the order of their weight"
    indices = [layer["index"] for layer in results["layers"]]
    if indices != sorted(indices):
        yield "layers are not in forward order"


def _earned(results: Block) -> Iterator[str]:
    """PASS and WARN say that no more was found, and have to be earned (`score.verdict.decide`)."""
    word = results["verdict"]["word"]
    if exposed(_exposure(results["exposure"]["all"])) is not False:
        yield f"the verdict is {word}, and linear analysis does not say that the update exposes no clip"
    clips = {run["probe"] for f in results["findings"] for run in f["results"] if run["kind"] in _ON_CLIPS}
    if len(clips) < LEAST_CLIPS:
        yield f"the verdict is {word}, and {len(clips)} clips were attacked"
    untested = [c["name"] for c in results["controls"] if c["kind"] == "positive" and c["passed"] is None]
    if untested:
        yield f"the verdict is {word}, and the control '{untested[0]}' did not run"
    for finding in results["findings"]:
        if not finding["counts"] and finding["grade"] != "NOT_SHOWN":
            yield f"the verdict is {word}, and {finding['id']} reached {finding['grade']} without a null control"
    if any(s["stage"] == "invert" and s["because"] == "failed" for s in results["skipped"]):
        yield f"the verdict is {word}, and an attack broke"
    if (results.get("scaled_down") or {}).get("shown"):
        yield f"the verdict is {word}, and smaller clips were recovered"
    if word == "PASS" and demonstrated(results) >= _GIST:
        yield "the verdict is PASS, and something counts"


def _exposure(block: Any) -> Exposure | None:
    return None if block is None else Exposure(**{f.name: block.get(f.name) for f in fields(Exposure)})
