"""A comparison as one HTML page, as PDF, and its plot by itself."""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from auditor.report.comparison import plot as drawing
from auditor.report.comparison.cells import HEAD, asides, attack_cell, attack_names, rows
from auditor.report.language.templates import environment, stylesheet
from auditor.report.page import started
from auditor.report.pdf import draw_pdf
from auditor.report.plain import results_digest, to_json


def to_html(results: Mapping[str, Any]) -> str:
    """Return the comparison as one self-contained page."""
    names = attack_names(results)
    return (
        environment()
        .get_template("comparison.html.j2")
        .render(
            **results,
            head=HEAD,
            rows=rows(results),
            attack_names=names,
            matrix=[(c["name"], [attack_cell(c, name) for name in names]) for c in results["candidates"]],
            asides=asides(results),
            plot=drawing.plot(results),
            box=drawing,
            date=started(results),
            digest=results_digest(results),
            stylesheet=Markup(stylesheet()),  # ours, not the user's
        )
    )


def to_pdf(results: Mapping[str, Any]) -> tuple[bytes, tuple[str, ...]]:
    """Return the page as PDF with comparison.json attached, and what WeasyPrint complained of.

    Raises
    ------
    PdfUnavailableError
        Pango or WeasyPrint is missing.
    """
    source = to_json(results).encode("ascii")
    return draw_pdf(to_html(results), "comparison.json", source, started(results), results_digest(results))


def to_svg(results: Mapping[str, Any]) -> str:
    """Return the plot of leakage against cost as an SVG file."""
    draw = environment().get_template("comparison_plot.html.j2").make_module()
    drawn = draw.leakage_by_cost(drawing.plot(results), drawing)  # type: ignore[attr-defined]
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + str(drawn).strip() + "\n"
