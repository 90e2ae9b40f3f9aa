"""Render: an audit's results become files and one terminal screen.

`results.json` is complete; every other output is made from it and can be made again without the model.
"""

from auditor.report.outputs import UnwrittenError, check_outputs, rendered, write
from auditor.report.pdf import PdfUnavailableError
from auditor.report.plain import results_digest
from auditor.report.terminal import terminal_summary
from auditor.results.reading import read_results

__all__ = [
    "PdfUnavailableError",
    "UnwrittenError",
    "check_outputs",
    "read_results",
    "rendered",
    "results_digest",
    "terminal_summary",
    "write",
]
