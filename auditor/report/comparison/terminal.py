"""A comparison on the terminal."""

from collections.abc import Iterator, Mapping
from typing import Any

from auditor.report.comparison.cells import HEAD, asides, rows
from auditor.text import printable

# Columns that are read as text.
_LEFT = ("Model", "Verdict")
_WIDEST = 44


def comparison_summary(results: Mapping[str, Any]) -> str:
    """Return the table, the order and the recommendations as plain text."""
    return "\n".join(_lines(results))


def _lines(results: Mapping[str, Any]) -> Iterator[str]:
    table = [HEAD, *([printable(cell, _WIDEST) for cell in row.cells] for row in rows(results))]
    widths = [max(len(row[i]) for row in table) for i in range(len(HEAD))]
    for row in table:
        cells = (c.ljust(w) if h in _LEFT else c.rjust(w) for c, w, h in zip(row, widths, HEAD, strict=True))
        yield "  ".join(cells).rstrip()
    yield ""
    yield printable(results["summary"], 600)
    for n, advice in enumerate(results["recommendations"], start=1):
        yield f"{n}. {printable(advice['text'], 600)}"
    for told in asides(results):
        yield f"- {printable(told, 400)}"
    yield f"Gate: {printable(results['gate']['reason'], 200)} (exit {results['gate']['exit_code']})"
