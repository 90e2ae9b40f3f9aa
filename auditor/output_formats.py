"""The files that a report can be written as: one line a format, by suffix.

Each names a function of the results (plain values, checked) that returns the text or the bytes of the file, or its
bytes and the warnings worth showing. Nothing is imported here, so that the help texts can list the suffixes.
"""

from collections.abc import Mapping

FORMATS: Mapping[str, str] = {
    ".json": "auditor.report.plain:to_json",
    ".html": "auditor.report.page:to_html",
    ".md": "auditor.report.markdown:to_markdown",
    ".pdf": "auditor.report.pdf:to_pdf",
}
SUFFIXES = tuple(FORMATS)
