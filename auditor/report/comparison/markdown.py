"""A comparison as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from auditor.report.comparison.cells import HEAD, asides, attack_cell, attack_names, rows
from auditor.report.plain import results_digest
from auditor.text import printable

_ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}


def to_markdown(results: Mapping[str, Any]) -> str:
    """Return the order, the table, the matrix of attacks and what follows."""
    names = attack_names(results)
    matrix = [(c["name"], *(attack_cell(c, name) for name in names)) for c in results["candidates"]]
    lines = [
        "## fl-audit compare",
        "",
        f"**{_inert(results['summary'], 600)}**",
        "",
        *_table(HEAD, [row.cells for row in rows(results)]),
        "",
        *(f"{n}. {_inert(r['text'], 600)}" for n, r in enumerate(results["recommendations"], start=1)),
        "",
        "Mean gain over a blind guess by attack, dB (* its null control did not hold; a dash: it does not apply):",
        "",
        *_table(("Model", *names), matrix),
        "",
        *(f"- {_inert(told, 400)}" for told in asides(results)),
        "",
        *(f"- {name}: {_inert(told, 400)}" for name, told in results["measures"].items()),
        "",
        f"Digest of the results: `{results_digest(results)}`",
    ]
    return "\n".join(lines) + "\n"


def _table(head: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    return [_line(head), "|" + "---|" * len(head), *(_line(row) for row in body)]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(_inert(cell, 200) for cell in cells)} |"


def _inert(text: str, cap: int) -> str:
    return "".join(_ENTITIES.get(c, f"\\{c}" if c in "\\`*_[]|#" else c) for c in printable(text, cap))
