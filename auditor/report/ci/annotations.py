"""Workflow commands of GitHub Actions: what fails the gate and what else is open, beside the line it belongs to."""

from collections.abc import Mapping
from typing import Any

from auditor.gate.judge import judgement_of
from auditor.gate.rules import BY_RULE
from auditor.report.ci.plain_words import inert, level_of, message_of

_COMMANDS = {"error": "error", "warning": "warning", "note": "notice"}


def to_annotations(results: Mapping[str, Any]) -> str:
    """Return one line for each alert that is not fixed, and one for the gate."""
    judgement = judgement_of(results)
    place = judgement.get("place")
    where = ""
    if place is not None:
        where = f",file={_value(place['path'])},line={place['line']},endLine={place['line']}"
    lines = [
        f"::{_COMMANDS[level_of(a)]} title={_value(BY_RULE[a['rule']].short)}{where}::{_data(message_of(a, judgement))}"
        for a in judgement["alerts"]
        if a["state"] != "fixed"
    ]
    word, command = ("satisfied", "notice") if judgement["passed"] else ("failed", "error")
    lines.append(f"::{command} title=fl-audit::{_data(f'gate {word}: ' + '; '.join(judgement['reasons']))}")
    return "\n".join(lines) + "\n"


def _data(text: str) -> str:
    return inert(text, 1500).replace("%", "%25")


def _value(text: str) -> str:
    return inert(text, 300).replace("%", "%25").replace(":", "%3A").replace(",", "%2C")
