"""Words that every format for pipelines shares: level and message of an alert, with what came from outside inert."""

from collections.abc import Mapping
from typing import Any

from auditor.gate.rules import BY_RULE
from auditor.text import printable

Alert = Mapping[str, Any]
# What SARIF and its readers take for placeholders and links.
_BRACKETS = str.maketrans("[]{}", "()()")
_LEVELS = {"critical": "error", "high": "error", "medium": "warning", "low": "note", "none": "note"}


def level_of(alert: Alert) -> str:
    """Return error, warning or note: what fails the gate is an error, what somebody answers for a note."""
    if alert["fails"]:
        return "error"
    if alert["waiver"] is not None or alert["state"] == "fixed":
        return "note"
    if alert["state"] in ("new", "worse") and alert["clear"] and not alert["severity"]["score"]:
        return "warning"
    return BY_RULE[alert["rule"]].level if not alert["severity"]["score"] else _LEVELS[alert["severity"]["band"]]


def message_of(alert: Alert, judgement: Mapping[str, Any]) -> str:
    """Return an alert in a sentence or two: what it is about, what was found, and what became of it."""
    told = f"{inert(alert['subject'], 120)}: {inert(alert['message'], 600)}"
    if alert["state"] is not None:
        told += f" Against the baseline: {alert['state']} ({inert(alert['reason'], 300)})."
    waiver = waiver_of(alert, judgement)
    if waiver is not None:
        told += f" Waived by {inert(waiver['owner'], 120)} until {waiver['expires']}: {inert(waiver['reason'], 300)}"
    return told


def waiver_of(alert: Alert, judgement: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the waiver that covers an alert, or None."""
    return None if alert["waiver"] is None else judgement["waivers"][alert["waiver"]]


def inert(text: Any, cap: int) -> str:
    """Return a text that nobody's reader takes for more than text."""
    return printable(str(text), cap).translate(_BRACKETS)
