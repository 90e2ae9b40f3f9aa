"""The report of a study: HTML, PDF, Markdown, tables and figures, all from study.json."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from markupsafe import Markup

from auditor.errors import UsageError
from auditor.report import charts
from auditor.report.atomic import replace_file
from auditor.report.figures import MISSING, decibels, of, real, signed
from auditor.report.language import say, speaking
from auditor.report.language.messages import ENGLISH
from auditor.report.language.templates import Words, environment, stylesheet
from auditor.report.pdf import PdfUnavailableError, draw_pdf
from auditor.report.pictures import PictureGallery
from auditor.report.plain import plain, results_digest, to_json
from auditor.results.reading import check_study
from auditor.text import printable

Results = Mapping[str, Any]

SECTIONS: tuple[tuple[str, str], ...] = (
    ("summary", "Claims"),
    ("conditions", "Conditions"),
    ("table", "Every condition"),
    ("claims", "The claims, clip by clip"),
    ("pictures", "What comes back"),
    ("features", "What heads give away of their input"),
    ("limits", "Limits"),
    ("integrity", "Reproducibility"),
)
_PICTURES = (
    ("original", "Original"),
    ("copy", "Reference copy"),
    ("reconstruction", "Reconstruction"),
    ("enhanced", "Enhanced"),
    ("null", "Null"),
    ("enhanced_null", "Enhanced null"),
)


def write_study(results: Results, folder: Path, language: str = ENGLISH) -> tuple[str, ...]:
    """Write study.json, .html, .pdf, .md, tables/*.csv and figures/*.svg into a folder; return warnings worth showing.

    `language` is that of HTML and PDF; claims and questions stay as the study file words them.

    Raises
    ------
    UsageError
        A file cannot be written.
    """
    found: Results = plain(results)
    check_study(found)
    files = {
        "study.json": to_json(found).encode("ascii"),
        "study.md": markdown(found).encode("utf-8"),
        **{f"tables/{name}.csv": content.encode("utf-8") for name, content in tables(found).items()},
        **{f"figures/{name}.svg": content.encode("utf-8") for name, content in figures(found).items()},
        "study.html": page(found, printed=False, language=language).encode("utf-8"),
    }
    complaints: tuple[str, ...] = ()
    try:
        content, complaints = draw_pdf(
            page(found, printed=True, language=language),
            "study.json",
            files["study.json"],
            _moment(found),
            digest(found),
        )
        files["study.pdf"] = content
    except PdfUnavailableError as error:
        complaints = (str(error),)
    for name, content in files.items():
        try:
            replace_file(folder / name, content)
        except OSError as error:
            raise UsageError(
                f"cannot write {printable(str(folder / name))} ({error.strerror or type(error).__name__})",
                "name another folder with --out",
            ) from error
    return complaints


def digest(results: Results) -> str:
    """Return the SHA-256 of the results without what depends on the clock and on how the study was called."""
    kept = {k: v for k, v in results.items() if k != "times"}
    return results_digest({**kept, "tool": {k: v for k, v in results["tool"].items() if k != "command"}})


def page(results: Results, printed: bool, language: str = ENGLISH) -> str:
    """Return the report as one self-contained HTML page."""
    with speaking(language):
        return (
            environment()
            .get_template("study.html.j2")
            .render(
                **results,
                language=language,
                sections=[(anchor, say(title)) for anchor, title in SECTIONS],
                picture_kinds=[(kind, say(title)) for kind, title in _PICTURES],
                gallery=PictureGallery(printed),
                date=_moment(results),
                digest=digest(results),
                charts=charts,
                words=Words(),
                figure_of=_claim_figure,
                stylesheet=Markup(stylesheet()),  # ours, not the user's
                **_lead_figure(results),
            )
        )


def figures(results: Results) -> dict[str, str]:
    """Return the figures as SVG files: the lead of every condition, and one of each claim."""
    draw = environment().get_template("study_figures.html.j2").make_module({"charts": charts})
    lead = _lead_figure(results)
    made = {
        "lead": draw.rows(  # type: ignore[attr-defined]
            lead["leads"],
            lead["lead_low"],
            lead["lead_high"],
            "dB",
            "Lead without reference frames",
            "best blind guess",
        )
    }
    for claim in results["claims"]:
        if claim["effect"] is not None:
            f = _claim_figure(claim)
            made[_free(f"claim-{_file(claim['name'])}", made)] = draw.rows(  # type: ignore[attr-defined]
                f["marks"], f["low"], f["high"], claim["unit"], claim["text"], "no effect"
            )
    return {name: '<?xml version="1.0" encoding="UTF-8"?>\n' + str(text).strip() for name, text in made.items()}


def tables(results: Results) -> dict[str, str]:
    """Return the tables as CSV: conditions, claims, and every single run."""
    names = [m["name"] for m in results["measures"]]
    return {
        "conditions": _csv(
            ["model", "kind", "weights", "references", "attacks", "runs", "clips"]
            + [f"{n}{part}" for n in names for part in ("", "_low", "_high")]
            + ["found", "null_psnr", "null_gain", "null_found", "null_enhanced"]
            + ["features", "features_error", "features_found", "features_null_found"],
            (_condition_row(c, names) for c in results["cells"]),
        ),
        "claims": _csv(
            ["name", "text", "decision", "measure", "unit", "mean", "low", "high", "margin", "clips", "seeds", "runs"],
            (_claim_row(c) for c in results["claims"]),
        ),
        "runs": _csv(
            ["model", "weights", "references", "clip", "seed", "role", "attack", "outcome", "steps", "psnr", "gain",
             "ssim", "motion_gain", "motion_over_copy", "rank", "gallery", "enhanced", "over_bicubic"],
            (_run_row(r) for r in results["runs"]),
        ),
    }  # fmt: skip


def markdown(results: Results) -> str:
    """Return the claims and conditions as Markdown tables."""
    lines = [f"# {_cell(results['study']['title'])}", "", *claims_table(results), ""]
    lines += ["| condition | PSNR | lead | found | null gain | null found |", "|---|---|---|---|---|---|"]
    for c in results["cells"]:
        measures = c["measures"]
        lines.append(
            f"| {_cell(c['model'])}, {_cell(c['weights'])}, R{c['references']} "
            f"| {decibels(_part(measures['psnr'], 'mean'))} | {_interval(measures['lead'], 'dB')} | {of(c['recall'])} "
            f"| {decibels(c['null']['gain'], signed=True)} | {of(c['null']['recall'])} |"
        )
    if results["missing"]["units"]:
        lines += ["", f"{results['missing']['units']} of {results['missing']['of']} units are missing."]
    return "\n".join(lines) + "\n"


def claims_table(results: Results) -> list[str]:
    """Return the lines of a Markdown table of the claims."""
    lines = ["| claim | decision | effect (95% interval over scenes) | counts above |", "|---|---|---|---|"]
    return lines + [
        f"| {_cell(c['text'])} | **{c['decision']}** | {_interval(c['effect'], c['unit'])} "
        f"| {signed(c['margin'])} {c['unit']} |"
        for c in results["claims"]
    ]


def study_summary(results: Results) -> str:
    """Return what a terminal shows: every claim with its decision and effect."""
    lines = [printable(results["study"]["title"], 120)]
    for c in results["claims"]:
        lines.append(f"  {c['decision'].upper():<13}{printable(c['text'], 100)}: {_interval(c['effect'], c['unit'])}")
    missing = results["missing"]
    lines.append(f"{missing['of'] - missing['units']} of {missing['of']} units done")
    if missing["failures"]:
        first = missing["failures"][0]
        lines.append(f"{len(missing['failures'])} failed, e.g. {first['what']}: {first['reason']}")
    if missing["units"]:
        lines.append("run the same command again to go on")
    return "\n".join(lines)


def _moment(results: Results) -> datetime | None:
    try:
        moment = datetime.fromisoformat(results["times"]["started"])
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _lead_figure(results: Results) -> dict[str, Any]:
    marks = []
    for c in results["cells"]:
        lead = c["measures"]["lead"]
        if c["references"] == 0 and lead is not None:
            marks.append({"name": f"{c['model']}, {c['weights']}", **lead})
    low, high = _ends(marks)
    return {"leads": marks, "lead_low": low, "lead_high": high}


def _claim_figure(claim: Mapping[str, Any]) -> dict[str, Any]:
    effect = claim["effect"]
    marks = [{"name": name, "mean": value, "low": None, "high": None} for name, value in effect["clips"].items()]
    marks.append(
        {"name": say("all clips"), **{k: effect[k] for k in ("mean", "low", "high")}, "margin": claim["margin"]}
    )
    low, high = _ends(marks)
    return {"marks": marks, "low": low, "high": high}


def _ends(marks: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    values = [v for m in marks for k in ("mean", "low", "high", "margin") if (v := real(m.get(k))) is not None]
    low, high = min([0.0, *values]), max([0.0, *values])
    room = 0.08 * max(high - low, 1e-3)
    return low - room, high + room


def _part(block: Mapping[str, Any] | None, name: str) -> Any:
    return None if block is None else block[name]


def _interval(block: Mapping[str, Any] | None, unit: str) -> str:
    if block is None or real(block["mean"]) is None:
        return MISSING
    between = "" if block["low"] is None else f" ({signed(block['low'], 2)} to {signed(block['high'], 2)})"
    return f"{signed(block['mean'], 2)} {unit}".strip() + between


def _cell(text: Any) -> str:
    return printable(str(text), 200).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def _file(name: str) -> str:
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in name)[:60]


def _csv(head: Sequence[str], rows: Iterator[Sequence[Any]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(head)
    writer.writerows([_inert(v) for v in row] for row in rows)
    return stream.getvalue()


def _free(name: str, taken: Mapping[str, str]) -> str:
    """Names of claims may differ in what a file name cannot hold."""
    return (
        name
        if name not in taken
        else next(f"{name}-{k}" for k in range(2, 2 + len(taken)) if f"{name}-{k}" not in taken)
    )


def _inert(value: Any) -> Any:
    """Return what a spreadsheet shows and does not compute: a text that begins like a formula gets an apostrophe."""
    if not isinstance(value, str):
        return "" if value is None else value
    shown = printable(value, 1000)
    return f"'{shown}" if shown[:1] in ("=", "+", "-", "@") and value != "-inf" else shown


def _condition_row(c: Mapping[str, Any], names: Sequence[str]) -> list[Any]:
    measured = [_part(c["measures"][n], part) for n in names for part in ("mean", "low", "high")]
    null = c["null"]
    features = c["features"] or {"recovered": [], "largest_error": None, "recall": None, "null_recall": None}
    return [
        c["model"], c["kind"], c["weights"], c["references"], " ".join(c["attacks"]), c["runs"], c["clips"], *measured,
        _part(c["recall"], "hits"), null["psnr"], null["gain"], _part(null["recall"], "hits"), null["enhanced"],
        " ".join(features["recovered"]), features["largest_error"],
        _part(features["recall"], "hits"), _part(features["null_recall"], "hits"),
    ]  # fmt: skip


def _claim_row(c: Mapping[str, Any]) -> list[Any]:
    effect = c["effect"]
    numbers = [None] * 3 if effect is None else [effect["mean"], effect["low"], effect["high"]]
    over = [None] * 3 if effect is None else [len(effect["clips"]), effect["seeds"], effect["runs"]]
    return [c["name"], c["text"], c["decision"], c["measure"], c["unit"], *numbers, c["margin"], *over]


def _run_row(r: Mapping[str, Any]) -> list[Any]:
    score = r["score"] or {}
    first = r["enhanced"][0] if r["enhanced"] else {}
    return [
        *(r[k] for k in ("model", "weights", "references", "clip", "seed", "role", "attack", "outcome", "steps")),
        *(score.get(k) for k in ("psnr", "gain", "ssim", "motion_gain", "motion_over_copy", "rank", "gallery")),
        first.get("method"), first.get("over_bicubic"),
    ]  # fmt: skip
