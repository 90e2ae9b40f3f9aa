"""Whether the parts of an audit's results agree with one another: verdict, findings, controls, what-if and actions."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from auditor.results.severity import BANDS, WHOLE_MAP, band

GRADES = ("NOT_SHOWN", "GIST", "RECOGNISABLE", "EXACT")
_SHOWN, _RECOVERED = GRADES.index("GIST"), GRADES.index("RECOGNISABLE")
_INCONCLUSIVE = 4
# What is compared was rounded when it was written: severity to one digit, decibels in sentences to one.
_ROUNDED = 0.051
_GAINS = re.compile(r"attack gain ([+-]?[\d.]+) dB to ([+-]?[\d.]+) dB")

Results = Mapping[str, Any]


def contradictions(results: Results) -> tuple[str, ...]:
    """Return every contradiction among the parts of checked results, each as a sentence; none where they agree."""
    checks = (_verdict, _inconclusive, _gate, _severity, _findings, _controls, _what_if, _actions, _fidelity, _parts)
    return tuple(found for check in checks for found in check(results))


def demonstrated(results: Results) -> int:
    """Return the place in `GRADES` of the strongest grade that counts.

    An inner value that was recovered counts as a picture where it holds as many numbers as one, else as a gist.
    """
    grades = [finding["grade"] for finding in results["findings"] if finding["counts"]]
    grades += [results["labels"]["grade"] or "NOT_SHOWN", (results.get("membership") or {}).get("grade") or "NOT_SHOWN"]
    maps = [m["per_pixel"] for m in _maps(results)]
    grades += [GRADES[_RECOVERED if per_pixel >= WHOLE_MAP else _SHOWN] for per_pixel in maps]
    return max(map(GRADES.index, grades))


def _maps(results: Results) -> list[Mapping[str, Any]]:
    return [found for found in results.get("feature_maps", ()) if found["counts"]]


def _verdict(results: Results) -> Iterator[str]:
    verdict, grade = results["verdict"], demonstrated(results)
    word, shown = verdict["word"], GRADES[grade]
    if word == "FAIL" and grade < _RECOVERED:
        yield f"the verdict is FAIL, and the strongest grade that counts is {shown}"
    if word == "WARN" and grade != _SHOWN:
        yield f"the verdict is WARN, and the strongest grade that counts is {shown}"
    if word == "PASS" and grade >= _SHOWN:
        yield f"the verdict is PASS, and a finding of grade {shown} counts"
    first = verdict["sentence"].partition(":")[0]
    if first != word and first in ("FAIL", "WARN", "PASS", "INCONCLUSIVE"):
        yield f"the verdict is {word}, and its sentence says {first}"
    for reason in verdict["reasons"]:
        reached = reason.removeprefix("an attack reached ")
        if reached != reason and reached in GRADES and reached != shown:
            yield f"the verdict's reason is a grade {reached}, and the strongest that counts is {shown}"


def _inconclusive(results: Results) -> Iterator[str]:
    """What was demonstrated is FAIL, whatever else went wrong but a control; and what cannot be told has a reason."""
    if results["verdict"]["word"] != "INCONCLUSIVE":
        return
    needed = [c for c in results["controls"] if c["kind"] in ("positive", "simulation")]
    grade = demonstrated(results)
    if grade >= _RECOVERED and all(control["passed"] is not False for control in needed):
        yield f"the verdict is INCONCLUSIVE, every control held, and the strongest grade that counts is {GRADES[grade]}"
    if not results["verdict"]["reasons"]:
        yield "the verdict is INCONCLUSIVE, and no reason is told"


def _gate(results: Results) -> Iterator[str]:
    verdict, severity = results["verdict"], results["severity"]
    gate, code = verdict["gate"], verdict["exit_code"]
    if verdict["word"] == "INCONCLUSIVE":
        expected = (False, _INCONCLUSIVE)
    elif gate["fail_on"] == "never":
        expected = (True, 0)
    elif gate["fail_on"] not in BANDS:
        return
    else:
        below = not severity["score"] or BANDS.index(severity["band"]) < BANDS.index(gate["fail_on"])
        expected = (True, 0) if below else (False, 1)
    if code != expected[1] or gate["passed"] not in (None, expected[0]):
        yield (
            f"with the verdict {verdict['word']}, severity {severity['band']} and --fail-on {gate['fail_on']} the exit "
            f"code is {expected[1]}, and the results say {code}"
        )


def _severity(results: Results) -> Iterator[str]:
    severity, grade = results["severity"], demonstrated(results)
    score = severity["score"]
    if score is None:
        return
    if severity["band"] != band(score):
        yield f"severity {score} is {band(score)}, and the results say {severity['band']}"
    if (score > 0.0) != (grade >= _SHOWN):
        yield f"severity is {score}, and the strongest grade that counts is {GRADES[grade]}"
    counted = [*(f for f in results["findings"] if f["counts"]), *_maps(results)]
    most = max((f["severity"]["score"] or 0.0 for f in counted), default=0.0)
    if most > score + _ROUNDED:
        yield f"severity is {score}, and a finding that counts has {most}"


def _findings(results: Results) -> Iterator[str]:
    for finding in results["findings"]:
        name, place = finding["attack"], GRADES.index(finding["grade"])
        if finding["counts"] and finding["null_at_chance"] is False:
            yield f"{name} counts, and its null control was not at chance"
        runs = [GRADES.index(result["grade"]) for result in finding["results"]]
        if max(runs, default=0) > place:
            yield f"a run of {name} has grade {GRADES[max(runs)]}, and the finding {finding['grade']}"
        listed = not finding["recall"] or finding["recall"]["trials"] <= len(runs)  # some files list few of many runs
        if listed and place >= _RECOVERED and max(runs, default=0) < _RECOVERED:
            yield f"{name} has grade {finding['grade']}, and no run of it has"


def _controls(results: Results) -> Iterator[str]:
    needed = [c for c in results["controls"] if c["kind"] in ("positive", "simulation")]
    failed = [control["name"] for control in needed if control["passed"] is False]
    word = results["verdict"]["word"]
    if failed and word != "INCONCLUSIVE":
        yield f"the verdict is {word}, and the control '{failed[0]}' failed"
    missed = [c["name"] for c in results["controls"] if c["kind"] == "own net" and c["passed"] is False]
    if missed and word in ("PASS", "WARN"):
        yield f"the verdict is {word}, and the control '{missed[0]}' failed"
    said = [*results["verdict"]["reasons"], *results["confidence"]["reasons"]]
    if any("control failed" in text for text in said) and not any(c["passed"] is False for c in results["controls"]):
        yield "a control is said to have failed, and none did"


def _what_if(results: Results) -> Iterator[str]:
    variants = results["what_if"]
    bases = [variant for variant in variants if variant["baseline"]]
    if variants and len(bases) != 1:
        yield f"the what-if table has {len(bases)} baselines"
    for base in bases:
        if base["grade"] and GRADES.index(base["grade"]) > demonstrated(results):
            yield f"the what-if's audited row has grade {base['grade']}, and the audit {GRADES[demonstrated(results)]}"
    for variant in variants if len(bases) == 1 else ():
        for value, change in (("gain", "delta_gain"), ("exposure_psnr", "delta_exposure")):
            numbers = (variant[value], bases[0][value], variant[change])
            if variant["baseline"] or not all(isinstance(number, int | float) for number in numbers):
                continue
            here, there, said = numbers
            if abs(here - there - said) > _ROUNDED:
                yield f"the what-if '{variant['name']}' changes {value} by {here - there:.2f}, and says {said:.2f}"


def _actions(results: Results) -> Iterator[str]:
    gains = [variant["gain"] for variant in results["what_if"] if variant["gain"] is not None]
    for action in results["actions"]:
        found = _GAINS.search(action["effect"] or "")
        for said in map(float, found.groups()) if found else ():
            if not any(abs(said - gain) <= _ROUNDED for gain in gains):
                yield f"an action names a measured gain of {said:+.1f} dB, and no what-if measured that"


def _fidelity(results: Results) -> Iterator[str]:
    word = results["verdict"]["word"]
    if word in ("PASS", "WARN") and results["model"]["fidelity"].get("blind"):
        yield f"the verdict is {word}, and derivatives do not see the clip"


def _parts(results: Results) -> Iterator[str]:
    """Hold the layers against the verdict, and the set to keep back against its numbers."""
    recoveries = [layer["recovery"] for layer in results["layers"] if layer.get("recovery")]
    parts = [part for made in recoveries for part in (made["alone"], made["without"]) if part is not None]
    if results["verdict"]["word"] == "PASS" and any(part["grade"] in ("RECOGNISABLE", "EXACT") for part in parts):
        yield "the verdict is PASS, and a part of the update gave a recognisable picture"
    held = (results.get("layer_attacks") or {}).get("withholding")
    names = {layer["name"] for layer in results["layers"]}
    if held and not names.issuperset(held["layers"]):
        yield "layers are to be kept back that the model does not have"
    if held and held["layers"] and held["after"] and held["after"]["grade"] in ("RECOGNISABLE", "EXACT"):
        yield "a picture is recognisable without the layers that are to be kept back"
