"""The report as one HTML page, on screen and for print, from one set of templates."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from markupsafe import Markup

from auditor.report import charts, depth, judgement
from auditor.report.exposed import why_below
from auditor.report.fidelity import RECIPE, UPPER_BOUND, fidelity_rows
from auditor.report.filmstrip import MOST_FRAMES, Filmstrip, filmstrip, strips_of
from auditor.report.front.impact_assessment import impact_assessment
from auditor.report.front.page_one import action_text, cover_result, density, own_clips, page_one
from auditor.report.headline import Best, best, canaries, demonstrated, headlines, statement
from auditor.report.language import say, speaking, spoken
from auditor.report.language.messages import ENGLISH
from auditor.report.language.templates import TEMPLATES, Words, environment, stylesheet
from auditor.report.layers.attacked import attacked_layers, why_layers_below
from auditor.report.layers.keep_back import following, kept_back, tried_sets
from auditor.report.layers.remarks import remarks
from auditor.report.machine import machine_line
from auditor.report.membership import membership_rows, unmeasured
from auditor.report.pictures import PictureGallery
from auditor.report.plain import results_digest
from auditor.report.plots.courses import courses
from auditor.report.plots.layers import layer_plot
from auditor.report.plots.leaks import leak_clips, leak_rows
from auditor.report.plots.matrix import matrices
from auditor.report.plots.measures import measures
from auditor.report.plots.moving import moving_picture
from auditor.report.references import reference_rows
from auditor.report.wording import GRADES
from auditor.results.protection.seal import SEAL
from auditor.results.scores import VISIBLE_CONTENT
from auditor.results.version import __version__
from auditor.shipped import shipped
from auditor.text import printable

_COVER_FRAMES = 6
# A page on screen is to be sent by mail: where its pictures are more than that, filmstrips show fewer frames.
MOST_CHARACTERS = 3_000_000
_FEWER_FRAMES = (16, 8, 4)

SECTIONS: tuple[tuple[str, str], ...] = (
    ("summary", "Summary"),
    ("evidence", "Evidence"),
    ("findings", "Findings"),
    ("labels", "Label restoration"),
    ("layers", "Layers: exposed and demonstrated"),
    ("choices", "Architecture choices and defences"),
    ("actions", "Recommended actions"),
    ("gate", "Gate: what changed, and who answers for it"),
    ("scope", "Scope and threat model"),
    ("method", "Method and controls"),
    ("limitations", "Limitations"),
    ("frameworks", "Framework mapping"),
    ("integrity", "Reproducibility and integrity"),
    ("glossary", "Glossary"),
    ("dpia", "Annex: data protection impact assessment"),
    ("appendix", "Technical appendix"),
)
# Written where they are asked for.
ANNEXES = ("dpia",)


def render(results: Mapping[str, Any], printed: bool) -> str:
    """Return the whole report as HTML, in the language that the results ask for; `printed` prepares it for paper.

    `results` must be valid (see `validate`).
    """
    template = environment().get_template("report.html.j2")
    with speaking(language_of(results)):
        page = template.render(**_context(results, printed))
        for frames in () if printed else _FEWER_FRAMES:
            if len(page) <= MOST_CHARACTERS:
                break
            page = template.render(**_context(results, printed, frames))
    return page


def language_of(results: Mapping[str, Any]) -> str:
    """Return the language that a report is asked for in."""
    return (results.get("context") or {}).get("language", ENGLISH)


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


def _context(results: Mapping[str, Any], printed: bool, frames: int = MOST_FRAMES) -> dict[str, Any]:
    gallery = PictureGallery(printed)
    payloads = canaries(results)
    strongest = best(results)
    score = strongest.result["score"] if strongest else None
    covered = cover_result(results)
    one = page_one(results)
    annexes = (results.get("context") or {}).get("annexes", ())
    clips = leak_clips(results)
    decided = judgement.shown(results)
    absent = {*ANNEXES} - {*annexes} | ({"gate"} if decided is None else set())
    sections = [(anchor, title) for anchor, title in SECTIONS if anchor not in absent]
    return {
        **results,
        "printed": printed,
        "language": spoken(),
        "sections": [(anchor, say(title)) for anchor, title in sections],
        "one": one,
        "impact": impact_assessment(results, one),
        "density": density(one),
        "action_text": action_text,
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
        "cover_strip": _cover_strip(covered, gallery),
        "moving": None if printed or covered is None else moving_picture(covered.result, gallery),
        "cover_caption": _cover_caption(results, covered),
        "leak_rows": leak_rows(results),
        "leak_clips": clips,
        "layer_plot": layer_plot(results["layers"], None if score is None else score["psnr"]),
        "course_of": courses,
        "measures": measures(results["what_if"]),
        "strips": [(finding, strips_of(finding, gallery, payloads, frames)) for finding in results["findings"]],
        "scaled_strips": _scaled_strips(results, gallery),
        "matrices": matrices(results),
        "fidelity": fidelity_rows(results["model"]["fidelity"], results["model"]["parameters"]),
        "recipe": RECIPE,
        "machine": machine_line(results),
        "upper_bound": say(UPPER_BOUND),
        "reference_rows": reference_rows(results),
        "membership_rows": membership_rows(results, gallery),
        "membership_gap": unmeasured(results["membership"]) if results.get("membership") else "",
        "remarks": remarks(results["layers"], results["exposure"]["reason"]),
        "exposure_range": charts.exposure_range(results["layers"]),
        "levels": charts.levels(results, score),
        "why_below": why_below(results),
        "attacked_layers": attacked_layers(results["layers"]),
        "layers_below": why_layers_below(results),
        "kept_back": kept_back(results),
        "following": following(results),
        "tried_sets": tried_sets(results),
        "frameworks": _frameworks(),
        "charts": charts,
        "visible_content": VISIBLE_CONTENT,
        "depth": depth,
        "words": Words(),
        "stylesheet": Markup(stylesheet()),  # ours, not the user's
    }


def _cover_strip(strongest: Best | None, gallery: PictureGallery) -> Filmstrip | None:
    if strongest is None or not (strongest.result["pictures"] or {}).get("frames"):
        return None
    kinds = ("original", "reconstruction", "baseline")
    return filmstrip(strongest.finding, strongest.result, gallery, "best", kinds, _COVER_FRAMES)


def _cover_caption(results: Mapping[str, Any], shown: Best | None) -> str:
    """Name the clip on the cover, and what it stands for."""
    if shown is None:
        return ""
    probe, grade = printable(shown.result["probe"], 40), say(GRADES[shown.grade]).lower()
    if shown.result["probe"] in own_clips(results):
        return say("Your own clip %(probe)s, its strongest reconstruction: %(grade)s", probe=probe, grade=grade)
    return say("Test clip %(probe)s, the strongest reconstruction of this audit: %(grade)s", probe=probe, grade=grade)


def _scaled_strips(results: Mapping[str, Any], gallery: PictureGallery) -> list[Filmstrip]:
    """Return the best strip of every finding at a smaller size."""
    findings = (results.get("scaled_down") or {}).get("findings", ())
    return [strip for finding in findings for strip in strips_of(finding, gallery, frozenset())[:1]]


@lru_cache(maxsize=1)
def _frameworks() -> Any:
    return json.loads((shipped(TEMPLATES) / "frameworks.json").read_text("utf-8"))
