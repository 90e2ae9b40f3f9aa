"""The files that a report can be written as: one line a format, by suffix.

Each names a function of the results (plain values, checked) that returns the text or the bytes of the file, or its
bytes and the warnings worth showing. Nothing is imported here, so that the help texts can list the suffixes.
"""

from collections.abc import Mapping
from pathlib import Path

FORMATS: Mapping[str, str] = {
    ".json": "auditor.report.plain:to_json",
    ".html": "auditor.report.page:to_html",
    ".sarif": "auditor.report.ci.sarif:to_sarif",
    ".github.sarif": "auditor.report.ci.sarif:to_github_sarif",
    ".xml": "auditor.report.ci.junit:to_junit",
    ".annotations": "auditor.report.ci.annotations:to_annotations",
    ".md": "auditor.report.markdown:to_markdown",
    ".pdf": "auditor.report.pdf:to_pdf",
}
SUFFIXES = tuple(FORMATS)
# What a comparison is written as.
COMPARISON_FORMATS: Mapping[str, str] = {
    ".json": "auditor.report.plain:to_json",
    ".html": "auditor.report.comparison.page:to_html",
    ".pdf": "auditor.report.comparison.page:to_pdf",
    ".md": "auditor.report.comparison.markdown:to_markdown",
    ".svg": "auditor.report.comparison.page:to_svg",
}
REUSE = "--reuse/--no-reuse"
RESUME = "--resume/--no-resume"
STDOUT = "- is standard output: -o - for JSON, -o -.sarif and so on."


def suffix_of(path: Path) -> str:
    """Return the suffix that names the format of a file: two where two are one, nothing where it is none of these.

    >>> suffix_of(Path("audit.github.sarif")), suffix_of(Path("v1.2.sarif")), suffix_of(Path("audit.doc"))
    ('.github.sarif', '.sarif', '')
    """
    double = "".join(path.suffixes[-2:]).lower()
    return double if double in FORMATS else path.suffix.lower() if path.suffix.lower() in FORMATS else ""


def to_stdout(path: Path) -> bool:
    """Tell whether an output goes to standard output: `-` for results.json, else `-` and the suffix of its format."""
    return str(path) == "-" or (str(path).startswith("-") and str(path)[1:] in FORMATS)
