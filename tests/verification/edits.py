"""Edits of a results.json that somebody may make, each with a name; `forged` ones are sealed again afterwards."""

import base64
import copy
import io
import random
from collections.abc import Callable, Iterator
from typing import Any

from PIL import Image

Results = dict[str, Any]
Edit = Callable[[Results], object]


def put(place: str, value: Any) -> Edit:
    """Return an edit that writes a value at a place such as `findings.0.grade`, computed where it is a function."""

    def edit(results: Results) -> None:
        *path, last = (int(key) if key.lstrip("-").isdigit() else key for key in place.split("."))
        held: Any = results
        for key in path:
            held = held[key]
        held[last] = value(held[last]) if callable(value) else value

    return edit


def together(*edits: Edit) -> Edit:
    """Return an edit that makes several."""
    return lambda results: [edit(results) for edit in edits]


def repainted(uri: str) -> str:
    """Return a picture of the same size that shows something else."""
    prefix, _, content = uri.partition(",")
    with Image.open(io.BytesIO(base64.b64decode(content))) as image:
        grey = Image.new("RGB", image.size, (127, 127, 127))
    stored = io.BytesIO()
    grey.save(stored, "PNG")
    return f"{prefix},{base64.b64encode(stored.getvalue()).decode()}"


def turned(text: str) -> str:
    """Return a text with one character turned into another one."""
    return text[:-1] + ("0" if text[-1:] != "0" else "1")


def more(by: float) -> Callable[[Any], Any]:
    """Return a change of a number by so much."""
    return lambda value: value + by


def picture(change: Callable[[str], str]) -> Edit:
    """Return an edit of the first picture of a reconstruction."""

    def edit(results: Results) -> None:
        runs = (run for finding in results["findings"] for run in finding["results"])
        strip = next(run["pictures"] for run in runs if run["pictures"] is not None)["reconstruction"]
        strip[0] = change(strip[0])

    return edit


# What follows from other values: caught even where the file was sealed again.
FORGED: dict[str, Edit] = {
    "verdict to PASS": together(
        put("verdict.word", "PASS"),
        put("verdict.sentence", "PASS: no leakage demonstrated under the tested conditions"),
        put("verdict.exit_code", 0),
        put("verdict.gate.passed", True),
    ),
    "verdict to WARN": put("verdict.word", "WARN"),
    "verdict to INCONCLUSIVE": together(
        put("verdict.word", "INCONCLUSIVE"),
        put("verdict.sentence", "INCONCLUSIVE: this audit cannot tell"),
        put("verdict.exit_code", 4),
        put("verdict.reasons", ["not enough clips"]),
    ),
    "sentence of the verdict": put("verdict.sentence", "FAIL: hardly any leakage demonstrated"),
    "exit code of the verdict": put("verdict.exit_code", 0),
    "severity": put("severity.score", 2.1),
    "severity with its band": together(put("severity.score", 2.1), put("severity.band", "low")),
    "band of a finding": put("findings.0.severity.band", "low"),
    "severity of a finding": put("findings.0.severity.score", 7.0),
    "vector of severity": put("severity.vector", "FLA:2/TM:C/K:reference/G:GIST/F:0.00/P:0.00/R:0.10"),
    "input of severity": put("severity.inputs.reach.value", 0.1),
    "grade of a finding": put("findings.0.grade", "GIST"),
    "grade of a run": put("findings.0.results.0.grade", "NOT_SHOWN"),
    "PSNR of a clip": put("findings.0.results.0.score.psnr", more(-6.0)),
    "PSNR of a frame": put("findings.0.results.0.score.psnr_frames.0", more(-6.0)),
    "gain": put("findings.0.results.0.score.gain", more(-3.0)),
    "a blind guess": put("findings.0.results.0.score.baselines.grey", 40.0),
    "best frame": put("findings.0.results.0.score.psnr_best", more(1.0)),
    "summary's number": put("findings.0.summary", lambda text: text.replace("dB", "1 dB", 1)),
    "summary's words": put("findings.0.summary", lambda text: text.replace("recovered a", "did not recover a")),
    "null control": put("findings.0.null_at_chance", False),
    "what counts": put("findings.0.counts", False),
    "picture": picture(repainted),
    "picture's bytes": picture(lambda uri: uri[:60] + "AAAA" + uri[64:]),
    "a finding less": lambda results: results["findings"].pop(0),
    "interval": put("labels.interval.low", 0.0),
    "hits": put("labels.interval.hits", 0),
    "labels' grade": put("labels.grade", "NOT_SHOWN"),
    "proof of labels": together(put("labels.proven", True), put("labels.interval.hits", 1)),
    "control": lambda results: next(c for c in results["controls"] if c["kind"] == "positive").update(passed=False),
    "an alert less": lambda results: results["judgement"]["alerts"].pop(0),
    "an alert that is waived": put("judgement.alerts.0.waiver", 0),
    "an alert's severity": put("judgement.alerts.0.severity.score", 1.0),
    "an alert's message": put("judgement.alerts.0.message", "nothing was recovered"),
    "the gate's decision": together(put("judgement.passed", True), put("judgement.exit_code", 0)),
    "the gate's reason": put("judgement.reasons", ["nothing of severity high or above"]),
    "the policy": put("judgement.policy.fail_on", "never"),
}  # fmt: skip
# What nothing else in the file tells: the seal alone catches it.
PLAIN: dict[str, Edit] = {
    "hash of the model": put("model.sha256", turned),
    "hash of a clip": put("probes.0.sha256", turned),
    "name of the model": put("model.name", "another"),
    "date": put("tool.started", "2020-01-01T00:00:00+00:00"),
    "seed": put("tool.seed", 7),
    "version": put("tool.version", "0.0.9"),
    "command": put("tool.command", ["fl-audit", "scan"]),
    "an option": put("tool.options.batch", 64),
    "exposure of a layer": put("layers.0.exposure.psnr", more(-5.0)),
    "elements of a layer": put("layers.0.elements", more(1)),
    "confidence": put("confidence.level", "high"),
    "text of an action": put("actions.0.text", "Do nothing."),
    "what was not tested": put("protocol.threat_model.out_of_scope", []),
    "a waiver for all": put("judgement.waivers.0.layer", "*"),
    "a waiver's last day": put("judgement.waivers.0.expires", "2999-12-31"),
    "reason of a waiver": put("judgement.waivers.0.reason", "agreed"),
    "owner of a waiver": put("judgement.waivers.0.owner", "somebody@example.org"),
    "batch": put("protocol.batch", 64),
    "a skipped part less": lambda results: results["skipped"].pop(),
    "order of runs": lambda results: results["findings"][0]["results"].reverse(),
    "order of layers": lambda results: results["layers"].reverse(),
    "a note more": put("model.note", "audited by an authority"),
    "environment": put("environment.torch", "1.0"),
    "rank": put("findings.0.results.0.score.rank_same_scene", 40),
}  # fmt: skip


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every number, word, truth value and null."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            yield from leaves(item, (*path, key))
    else:
        yield path


def other(value: Any, chance: random.Random) -> Any:
    """Return another value of the same kind, a near one or a far one."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + chance.choice((1, -1, 10))
    if isinstance(value, float):
        return chance.choice((value + 1e-4, value * 1.01 + 0.01, -value - 1.0, 0.5 * value + 0.25))
    if isinstance(value, str):
        at = chance.randrange(len(value) + 1)
        return value[:at] + chance.choice("aZ0 .") + value[at + chance.randrange(2) :]
    return chance.choice((0, "x", False))


def at_random(results: Results, seed: int) -> tuple[Results, tuple[Any, ...]]:
    """Return a copy in which one value is another one, and where that is."""
    chance = random.Random(seed)
    made = copy.deepcopy(results)
    path = chance.choice(list(leaves(made)))
    held: Any = made
    for key in path[:-1]:
        held = held[key]
    before = held[path[-1]]
    while held[path[-1]] == before:
        held[path[-1]] = other(before, chance)
    return made, path
