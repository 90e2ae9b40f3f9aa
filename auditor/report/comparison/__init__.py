"""A comparison as files and as one terminal screen, all from comparison.json."""

from auditor.report.comparison.files import rendered_comparison, write_comparison
from auditor.report.comparison.terminal import comparison_summary

__all__ = ["comparison_summary", "rendered_comparison", "write_comparison"]
