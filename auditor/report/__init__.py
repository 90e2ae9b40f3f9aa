"""Render: an audit's results become files and one terminal screen.

`results.json` is complete; every other output is made from it and can be made again without the model.
"""

from auditor.report.outputs import (
    check_outputs,
    write,
    write_html,
    write_json,
    write_markdown,
    write_pdf,
)
from auditor.report.pdf import PdfUnavailableError
from auditor.report.plain import results_digest
from auditor.report.schema import SCHEMA, read_results
from auditor.report.terminal import terminal_summary

__all__ = [
    "SCHEMA",
    "PdfUnavailableError",
    "check_outputs",
    "read_results",
    "results_digest",
    "terminal_summary",
    "write",
    "write_html",
    "write_json",
    "write_markdown",
    "write_pdf",
]
