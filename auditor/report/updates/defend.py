"""The report of a search for protection: a curve for every defence, its weakest setting, and what it costs."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from markupsafe import Markup

from auditor.errors import UsageError
from auditor.report import charts
from auditor.report.atomic import replace_file
from auditor.report.figures import MISSING, decibels, fixed, percent, real, tiny
from auditor.report.language.templates import environment, stylesheet
from auditor.report.pdf import PdfUnavailableError, draw_pdf
from auditor.report.plain import plain, results_digest, to_json
from auditor.results.protection.defend import DefendDocument
from auditor.results.refusal import check
from auditor.text import printable

Results = Mapping[str, Any]
FILES = ("defend.json", "defend.html", "defend.pdf", "defend.md")
# A drawing's box: room for the axis below, and for its words on the left.
WIDTH, HEIGHT = 620.0, 150.0
# Without a finding there is still an axis.
_LEAST_SPAN = 6.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """One setting of a curve: where it lies, whether a clip was found there, and its words."""

    x: float
    y: float
    gone: bool | None
    gain: Any
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StrengthCurve:
    """Gain over a blind guess against strength: dots from weak to strong, and the heights of no gain and of bare."""

    dots: tuple[Dot, ...]
    path: str
    zero: float
    bare: float


def write_defend(results: Results, folder: Path) -> tuple[str, ...]:
    """Write defend.json, .html, .pdf and .md into a folder; return warnings worth showing.

    Raises
    ------
    UsageError
        A file cannot be written.
    """
    found: Results = plain(results)
    check(found, DefendDocument, "defend.json", "run the search again: the file is not as it was written")
    files = {
        "defend.json": to_json(found).encode("ascii"),
        "defend.md": markdown(found).encode("utf-8"),
        "defend.html": page(found, printed=False).encode("utf-8"),
    }
    complaints: tuple[str, ...] = ()
    try:
        files["defend.pdf"], complaints = draw_pdf(
            page(found, printed=True), "defend.json", files["defend.json"], _moment(found), results_digest(found)
        )
    except PdfUnavailableError as error:
        complaints = (str(error),)
    for name, content in files.items():
        try:
            replace_file(folder / name, content)
        except OSError as error:
            raise _unwritable(folder / name, error) from error
    return complaints


def check_defend_folder(folder: Path) -> None:
    """Raise UsageError now, rather than after the search, if results could not be put there."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--out {printable(str(folder))} is a file", "name a folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(folder / ".fl-audit", b"")
        (folder / ".fl-audit").unlink()
        if not any(folder.iterdir()):
            folder.rmdir()
    except OSError as error:
        raise _unwritable(folder, error) from error


def page(results: Results, printed: bool) -> str:
    """Return the report as one self-contained HTML page."""
    return (
        environment()
        .get_template("defend.html.j2")
        .render(
            **results,
            printed=printed,
            date=_moment(results),
            digest=results_digest(results),
            rows=[_cells(f) for f in results["families"]],
            curves=[(f, curve(f, results["bare"])) for f in results["families"]],
            box=(WIDTH, HEIGHT),
            stylesheet=Markup(stylesheet()),  # ours, not the user's
        )
    )


def curve(family: Results, bare: Results) -> StrengthCurve | None:
    """Return where the settings of a family lie; None where fewer than two have a score."""
    scored = [s for s in family["settings"] if real(s["gain"]) is not None and real(s["strength"])]
    if len(scored) < 2:
        return None
    places = [math.log10(float(s["strength"])) for s in scored]
    gains = [charts.finite(s["gain"]) for s in scored]
    low, high = min([0.0, *gains]), max([_LEAST_SPAN, *gains])
    # An exact recovery lies far above everything: its line is drawn at the top then.
    top = min(charts.finite(bare["gain"]), high)

    def height(gain: float) -> float:
        return round(HEIGHT - charts.place(gain, low, high, HEIGHT), 1)

    dots = tuple(
        Dot(
            x=charts.place(x, places[0], max(places[-1], places[0] + 1e-9), WIDTH),
            y=height(gain),
            gone=s["gone"],
            gain=s["gain"],
            title=" ".join(s["specs"]),
        )
        for s, x, gain in zip(scored, places, gains, strict=True)
    )
    path = "M" + " L".join(f"{d.x} {d.y}" for d in dots)
    return StrengthCurve(dots=dots, path=path, zero=height(0.0), bare=height(top))


def markdown(results: Results) -> str:
    """Return the table of defences as Markdown."""
    head = ("defence", *_SETTINGS, *_COSTS)
    lines = [f"# Where protection begins: {_cell(results['model']['name'])}", "", _cell(results["sentence"]), ""]
    if results["families"]:
        lines += [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
        lines += [f"| {' | '.join(map(_cell, _cells(f)))} |" for f in results["families"]]
        lines.append("")
    lines += [f"- {_cell(r['text'])}" for r in results["recommendations"]]
    return "\n".join(lines) + "\n"


def defend_summary(results: Results) -> str:
    """Return what a terminal shows."""
    return "\n".join(_lines(results))


_SETTINGS = ("clips gone from", "linear analysis there", "hidden from both from")
_COSTS = ("cosine", "SNR", "utility", "epsilon")


def _lines(d: Results) -> Iterator[str]:
    bare, use = d["bare"], d["utility"]
    yield f"{printable(d['model']['name'], 60)}: {len(d['clips'])} clips, {d['tool']['steps']} steps a search"
    yield f"  without any defence: {_told(bare)}"
    if use is not None:
        chance = "" if use["chance"] is None else f", by chance {fixed(use['chance'])}"
        yield f"  {printable(use['measure'], 60)} without any defence: {fixed(use['bare'])}{chance}"
    elif d["families"]:
        yield f"  no utility was measured: {printable(d['utility_reason'], 200)}"
    for f in d["families"]:
        name, weakest, *others = _cells(f)
        words = (*_SETTINGS[1:], *_COSTS)
        told = "; ".join(f"{what} {value}" for what, value in zip(words, others, strict=True) if value != MISSING)
        yield f"  {printable(name, 40):<20} {printable(weakest, 160)}{'; ' if told else ''}{told}"
    yield d["sentence"]
    yield from (f"  {number}. {r['text']}" for number, r in enumerate(d["recommendations"], start=1))


def _told(setting: Results) -> str:
    if not setting["attack"]:
        return f"no attack ran ({printable(setting['reason'], 160)})"
    shown = "no clip is found" if setting["gone"] else "a clip is found"
    return f"{shown}: {setting['grade']} by {setting['attack']}, {decibels(setting['psnr'])}"


def _cells(f: Results) -> tuple[str, ...]:
    """Return the cells of one family: its name, those of `_SETTINGS`, and those of `_COSTS`."""
    weakest, advised, exposed = f["weakest"], f["advised"], f["exposed"]
    costs = advised or weakest
    seen = MISSING
    if exposed is not None:
        seen = f"{decibels(exposed['psnr'])}, {percent(exposed['determined'])} determined"
    return (
        f["name"],
        _weakest(f),
        seen,
        MISSING if advised is None else " ".join(advised["specs"]),
        MISSING if costs is None else fixed(costs["cosine"]),
        MISSING if costs is None else decibels(costs["snr"]),
        MISSING if f["utility"] is None else fixed(f["utility"]),
        MISSING if f["epsilon"] is None else tiny(f["epsilon"]),
    )


def _weakest(f: Results) -> str:
    if f["weakest"] is None:
        there = "" if f["there"] is None else f": a clip is found at {' '.join(f['there']['specs'])}"
        return "none" + there if f["told"] else f"not told: {f['reason']}"
    open_end = "" if f["told"] else f" (not judged to the end: {f['reason']})"
    return " ".join(f["weakest"]["specs"]) + open_end


def _cell(text: Any) -> str:
    return printable(str(text), 600).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def _moment(results: Results) -> datetime | None:
    try:
        moment = datetime.fromisoformat(results["tool"]["started"])
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _unwritable(path: Path, error: OSError) -> UsageError:
    reason = error.strerror or type(error).__name__
    return UsageError(f"cannot write {printable(str(path))} ({reason})", "name another folder with --out")
