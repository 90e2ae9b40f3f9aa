"""The report as one HTML page, on screen and for print, from one set of templates."""

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import jinja2
from markupsafe import Markup

from auditor.report import charts, depth, figures, judgement, wording
from auditor.report.exposed import why_below
from auditor.report.fidelity import RECIPE, UPPER_BOUND, fidelity_rows
from auditor.report.filmstrip import Filmstrip, filmstrip, strips_of
from auditor.report.headline import Best, best, canaries, demonstrated, headlines, statement
from auditor.report.machine import machine_line
from auditor.report.matrix import matrices
from auditor.report.membership import membership_rows, unmeasured
from auditor.report.pictures import PictureGallery
from auditor.report.plain import results_digest
from auditor.report.references import reference_rows
from auditor.report.remarks import remarks
from auditor.results.scores import VISIBLE_CONTENT
from auditor.results.seal import SEAL
from auditor.results.version import __version__
from auditor.shipped import shipped
from auditor.text import printable

_TEMPLATES = "report_templates"
_FONTS = (("Inter", 400), ("Inter", 600), ("Inter", 700), ("JetBrains Mono", 400))
_LONGEST_TEXT = 1200
_COVER_FRAMES = 6

SECTIONS: tuple[tuple[str, str], ...] = (
    ("summary", "Executive summary"),
    ("scope", "Scope and threat model"),
    ("method", "Method and controls"),
    ("evidence", "Evidence"),
    ("findings", "Findings"),
    ("labels", "Label restoration"),
    ("layers", "Layers: exposed and demonstrated"),
    ("choices", "Architecture choices and defences"),
    ("actions", "Recommended actions"),
    ("gate", "Gate: what changed, and who answers for it"),
    ("limitations", "Limitations"),
    ("frameworks", "Framework mapping"),
    ("integrity", "Reproducibility and integrity"),
    ("glossary", "Glossary"),
)


def render(results: Mapping[str, Any], printed: bool) -> str:
    """Return the whole report as HTML; `printed` prepares it for paper.

    `results` must be valid (see `validate`).
    """
    return environment().get_template("report.html.j2").render(**_context(results, printed))


def to_html(results: Mapping[str, Any]) -> str:
    """Return the report as one self-contained HTML page, for a screen."""
    return render(results, printed=False)


def started(results: Mapping[str, Any]) -> datetime | None:
    """Return when the audit started, in UTC, or None where the text is not a date."""
    try:
        moment = datetime.fromisoformat(results["tool"]["started"])
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _context(results: Mapping[str, Any], printed: bool) -> dict[str, Any]:
    gallery = PictureGallery(printed)
    payloads = canaries(results)
    strongest = best(results)
    score = strongest.result["score"] if strongest else None
    decided = judgement.shown(results)
    sections = [(anchor, title) for anchor, title in SECTIONS if anchor != "gate" or decided is not None]
    return {
        **results,
        "printed": printed,
        "sections": sections,
        "number_of": {anchor: number for number, (anchor, _) in enumerate(sections, start=1)},
        "gate": decided,
        "digest": results_digest(results),
        "program": __version__,
        "signature": (results.get(SEAL) or {}).get("signature"),
        "date": started(results),
        "headlines": headlines(results),
        "best": strongest,
        "worst": demonstrated(results),
        "statement": statement(results),
        "cover_strip": _cover_strip(strongest, gallery),
        "strips": [(finding, strips_of(finding, gallery, payloads)) for finding in results["findings"]],
        "scaled_strips": _scaled_strips(results, gallery),
        "matrices": matrices(results),
        "fidelity": fidelity_rows(results["model"]["fidelity"], results["model"]["parameters"]),
        "recipe": RECIPE,
        "machine": machine_line(results),
        "upper_bound": UPPER_BOUND,
        "reference_rows": reference_rows(results),
        "membership_rows": membership_rows(results, gallery),
        "membership_gap": unmeasured(results["membership"]) if results.get("membership") else "",
        "remarks": remarks(results["layers"], results["exposure"]["reason"]),
        "stripes": charts.heat_strip(results["layers"]),
        "exposure_range": charts.exposure_range(results["layers"]),
        "levels": charts.levels(results, score),
        "why_below": why_below(results),
        "frameworks": _frameworks(),
        "charts": charts,
        "visible_content": VISIBLE_CONTENT,
        "depth": depth,
        "words": wording,
        "stylesheet": Markup(stylesheet()),  # ours, not the user's
    }


def _cover_strip(strongest: Best | None, gallery: PictureGallery) -> Filmstrip | None:
    if strongest is None or not (strongest.result["pictures"] or {}).get("frames"):
        return None
    kinds = ("original", "reconstruction", "baseline")
    return filmstrip(strongest.finding, strongest.result, gallery, "best", kinds, _COVER_FRAMES)


def _scaled_strips(results: Mapping[str, Any], gallery: PictureGallery) -> list[Filmstrip]:
    """Return the best strip of every finding at a smaller size."""
    findings = (results.get("scaled_down") or {}).get("findings", ())
    return [strip for finding in findings for strip in strips_of(finding, gallery, frozenset())[:1]]


@lru_cache(maxsize=1)
def _frameworks() -> Any:
    return json.loads((shipped(_TEMPLATES) / "frameworks.json").read_text("utf-8"))


@lru_cache(maxsize=1)
def stylesheet() -> str:
    """Return the fonts and the one style sheet."""
    faces = (_face(family, weight) for family, weight in _FONTS)
    return "\n".join((*faces, (shipped(_TEMPLATES) / "style.css").read_text("utf-8")))


def _face(family: str, weight: int) -> str:
    name = f"{family.lower().replace(' ', '-')}-{weight}.woff2"
    font = base64.b64encode((shipped(_TEMPLATES) / "fonts" / name).read_bytes()).decode("ascii")
    source = f"url(data:font/woff2;base64,{font}) format('woff2')"
    return f"@font-face {{ font-family: '{family}'; font-weight: {weight}; src: {source}; }}"


@lru_cache(maxsize=1)
def environment() -> jinja2.Environment:
    """Return the templates with their filters; whatever they print is escaped and made inert."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(shipped(_TEMPLATES)),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_inert,
    )
    environment.filters |= {
        "db": figures.decibels,
        "fixed": figures.fixed,
        "content_word": figures.content_word,
        "percent": figures.percent,
        "determined": figures.determined,
        "signed": figures.signed,
        "whole": figures.whole,
        "tiny": figures.tiny,
        "duration": figures.duration,
        "of": figures.of,
        "span": figures.span,
        "cell": figures.cell,
        "size": figures.size,
        "short": printable,
        "short_hash": figures.short_hash,
    }
    return environment


def _inert(value: Any) -> Any:
    # Names come from model files: no control, bidi or surrogate character may reach a page. Escaping follows.
    return printable(value, _LONGEST_TEXT) if isinstance(value, str) and not isinstance(value, Markup) else value
