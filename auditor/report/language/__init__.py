"""The language of a report: its messages, numbers and dates (report_templates/languages)."""

from auditor.report.language.messages import recorded, say, say_many, speaking, spoken
from auditor.report.language.numerals import day, digits

__all__ = ["day", "digits", "recorded", "say", "say_many", "speaking", "spoken"]
