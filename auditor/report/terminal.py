"""The audit on one terminal screen, verdict first."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from auditor.report import figures, wording
from auditor.report.depth import depth_line, scaled_line
from auditor.report.exposed import why_below
from auditor.report.fidelity import in_short
from auditor.report.headline import best, headlines, statement
from auditor.report.layers.attacked import layer_lines
from auditor.report.machine import machine_line
from auditor.report.membership import membership_sentence
from auditor.report.references import reference_rows
from auditor.text import printable

_GLYPHS = {"FAIL": "✖", "WARN": "▲", "PASS": "✔", "INCONCLUSIVE": "?"}
_PLAIN_GLYPHS = {"FAIL": "[X]", "WARN": "[!]", "PASS": "[+]", "INCONCLUSIVE": "[?]"}
_PLAIN = {"−": "-", "×": "x", "—": "-", "…": "...", "·": "|"}
_STYLES = {
    "FAIL": "bold white on dark_red",
    "WARN": "bold black on dark_orange",
    "PASS": "bold white on dodger_blue3",
    "INCONCLUSIVE": "bold white on grey37",
}
_SHORT = {
    "Picture recovered": "Picture",
    "Clip identified": "Identified",
    "Labels read": "Labels",
    "Payload bits read": "Bits",
}
_WIDEST = 100
_LABEL = 12
_ACTIONS = 3
_SCREEN = 30
_FILES = 4

Line = tuple[str, str]


def terminal_summary(results: Mapping[str, Any], console: Console, paths: Sequence[Path | str] = ()) -> None:
    """Print the audit on one screen: at most 30 lines, at most 100 columns; `paths` are the files written."""
    width = max(40, min(console.width, _WIDEST))
    ascii_only = not (console.encoding or "").lower().startswith("utf")
    for name, line in _lines(results, paths, width, ascii_only):
        text = Text(_fit(line, width, ascii_only), no_wrap=True, overflow="crop", end="")
        if name == "verdict":
            text.stylize(_STYLES[results["verdict"]["word"]], 0, _banner_length(results, ascii_only))
        elif name == "label":
            text.stylize("bold", 0, _LABEL)
        elif name == "faint":
            text.stylize("dim")
        console.print(text, markup=False, highlight=False, soft_wrap=True)


def _lines(results: Mapping[str, Any], paths: Sequence[Path | str], width: int, ascii_only: bool) -> list[Line]:
    found, files = list(_findings(results, width, ascii_only)), list(_written(paths))
    space: list[Line] = [("text", "")]
    room = _SCREEN - len(found) - len(space) - (len(files) + len(space) if files else 0)
    steps = list(_next_steps(results, width, room))
    return [*found, *(space + steps if steps else []), *(space + files if files else [])]


def _findings(results: Mapping[str, Any], width: int, ascii_only: bool) -> Iterator[Line]:
    verdict, tool, model = results["verdict"], results["tool"], results["model"]
    yield "verdict", f"{_banner(results, ascii_only)}  {wording.VERDICTS[verdict['word']]}"
    yield (
        "faint",
        f"{printable(model['name'], 40)} · sha256 {figures.short_hash(model['sha256'])} · "
        f"audit {printable(tool['audit_id'], 12)} · {figures.duration(tool['seconds'])}",
    )
    yield from (("text", line) for line in _wrap(statement(results), width, 3))
    yield "text", ""
    for headline in headlines(results):
        yield "label", _labelled(_SHORT[headline.title], f"{headline.value}   {headline.interval}")
    yield "label", _labelled("Severity", _severity(results))
    yield "label", _labelled("Best attack", _best(results))
    deep = depth_line(results)
    if deep:
        yield "label", _labelled("Depth", printable(deep, 300))
    smaller = scaled_line(results)
    if smaller:
        yield "label", _labelled("Smaller", printable(smaller, 300))
    yield from (("label", _labelled("Scene frame", line)) for line in _references(results))
    if (results.get("membership") or {}).get("clips"):
        yield "label", _labelled("Frames", printable(membership_sentence(results), 200))
    if results.get("privacy"):
        yield "label", _labelled("Privacy", printable(results["privacy"]["sentence"], 300))
        if results["privacy"].get("note"):
            yield "label", _labelled("", printable(results["privacy"]["note"], 400))
    if results.get("replay"):
        yield "label", _labelled("Replay", printable(results["replay"]["sentence"], 400))
    yield "label", _labelled("Exposed", _exposed(results))
    yield from (("label", _labelled("" if n else "Layers", line)) for n, line in enumerate(layer_lines(results)))
    yield "label", _labelled("Controls", _controls(results))
    for index, line in enumerate(in_short(results["model"]["fidelity"])):
        yield "label", _labelled("" if index else "Fidelity", line)
    yield "label", _labelled("Not tested", _not_tested(results))
    if "machine_cuts" in results:
        yield "label", _labelled("Machine", machine_line(results))


def _next_steps(results: Mapping[str, Any], width: int, room: int) -> Iterator[Line]:
    """What to do, each with its whole effect: as many as `room` lines hold, the first in any case."""
    actions = results["actions"][:_ACTIONS]
    for number, action in enumerate(actions, start=1):
        first, *more = _wrap(f"{number}. {action['text']}", width - _LABEL - 3, 2)
        effect = _wrap(f"effect: {action['effect'] or 'not measured'}", width - _LABEL - 3, 4)
        room -= 1 + len(more) + len(effect)
        if number > 1 and room < 0:
            return
        yield "label", _labelled("Do next" if number == 1 else "", first)
        yield from (("text", _labelled("", f"   {line}")) for line in more)
        yield from (("faint", _labelled("", f"   {line}")) for line in effect)


def _written(paths: Sequence[Path | str]) -> Iterator[Line]:
    for index, path in enumerate(paths[:_FILES]):
        yield "label", _labelled("Files" if index == 0 else "", printable(str(path), 400))
    if len(paths) > _FILES:
        yield "label", _labelled("", f"and {len(paths) - _FILES} more")


def _banner(results: Mapping[str, Any], ascii_only: bool) -> str:
    word = results["verdict"]["word"]
    return f" {(_PLAIN_GLYPHS if ascii_only else _GLYPHS)[word]} {word} "


def _banner_length(results: Mapping[str, Any], ascii_only: bool) -> int:
    return len(_banner(results, ascii_only))


def _severity(results: Mapping[str, Any]) -> str:
    severity = results["severity"]
    return (
        f"{figures.fixed(severity['score'], 1)} {wording.BANDS[severity['band']].lower()}, "
        f"confidence {results['confidence']['level']}   {printable(severity['vector'], 60)}"
    )


def _best(results: Mapping[str, Any]) -> str:
    strongest = best(results)
    if strongest is None:
        return "no attack produced a result that could be scored"
    score, finding = strongest.result["score"], strongest.finding
    rank = f", rank {score['rank']} of {score['gallery']}" if score["rank"] is not None else ""
    return (
        f"{wording.GRADES[strongest.grade].lower()}: {figures.decibels(score['psnr'])}, "
        f"SSIM {figures.fixed(score['ssim_median'])}{rank} by {printable(finding['attack'], 40)}"
    )


def _references(results: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with frames of the scene, or what they add on the clip where they add most: one line."""
    rows = reference_rows(results)
    notes = (results.get("references") or {}).get("notes", ())
    if notes:
        more = f" (and {len(notes) - 1} more in the report)" if len(notes) > 1 else ""
        yield f"{printable(notes[0], 200)}{more}"
    elif rows:
        best_row = max(rows, key=lambda row: figures.real(row.copy["gain"]) or -99.0)
        yield printable(f"{best_row.probe}, {best_row.kind}: {best_row.sentence}", 200)


def _exposed(results: Mapping[str, Any]) -> str:
    exposed = results["exposure"]["all"]
    if exposed is None:
        return f"not measured: {printable(results['exposure']['reason'] or 'no reason was given', 90)}"
    strongest = best(results)
    shown = figures.decibels(strongest.result["score"]["psnr"]) if strongest else "nothing"
    measured = [layer for layer in results["layers"] if layer["exposure"] is not None]
    most = max(measured, key=lambda layer: figures.real(layer["exposure"]["psnr"]) or 0.0, default=None)
    where = f", most in {printable(most['name'], 24)}" if most else ""
    without = figures.decibels(exposed["prior"])
    most = exposed.get("at_most", exposed.get("cap"))
    at_most = "" if most is None else f" of at most {figures.decibels(most)}"
    beyond = " (solved, not predicted)" if why_below(results) else ""
    return f"{figures.decibels(exposed['psnr'])}{at_most}{where}; demonstrated {shown}{beyond}; no update {without}"


def _controls(results: Mapping[str, Any]) -> str:
    controls = results["controls"]
    states = [control["passed"] for control in controls if control["passed"] is not None or control["kind"] != "blind"]
    failed = [printable(control["name"], 40) for control in controls if control["passed"] is False]
    counts = f"{states.count(True)} passed, {len(failed)} failed, {states.count(None)} not run"
    return f"{counts}: {', '.join(failed)}" if failed else counts


def _not_tested(results: Mapping[str, Any]) -> str:
    skipped = [printable(s["what"], 30) for s in results["skipped"]]
    outside = [printable(s, 40) for s in results["protocol"]["threat_model"]["out_of_scope"]]
    return "; ".join((*skipped, *outside)) or "nothing was skipped; see the limits in the report"


def _labelled(label: str, text: str) -> str:
    return f"{label:<{_LABEL}}{text}"


def _wrap(text: str, width: int, most: int) -> list[str]:
    lines = [""]
    for word in printable(text, 400).split():
        if lines[-1] and cell_len(lines[-1]) + 1 + cell_len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines if len(lines) <= most else [*lines[: most - 1], " ".join(lines[most - 1 :])]


def _fit(line: str, width: int, ascii_only: bool) -> str:
    if ascii_only:
        line = "".join(_PLAIN.get(c, c) for c in line).encode("ascii", "replace").decode("ascii")
    if cell_len(line) <= width:
        return line
    mark = "..." if ascii_only else "…"
    return set_cell_size(line, width - cell_len(mark)).rstrip() + mark
